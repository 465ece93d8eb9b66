"""Everything that talks to what we did not write: object stores, Kafka, SQLite, web hooks.

Cloud and Kafka libraries are imported in this package alone.
"""
