"""What the fleet remembers: SQLite (WAL) in one data directory, one writer at a time, each change one transaction."""
