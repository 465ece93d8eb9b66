"""A new log from one surviving replica: `tidestore recover`. See docs/recovery.md."""
