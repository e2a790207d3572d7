"""PostgreSQL clusters: WAL, base backups, recovery."""
