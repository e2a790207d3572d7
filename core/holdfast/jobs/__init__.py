"""Work that outlives the terminal: journal, leases, retries, schedules."""
