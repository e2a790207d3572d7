"""The only door to the operating system, hence the only place where faults are injected."""
