"""A log with more partitions, filled while writes go on. See docs/migration.md."""
