"""The view schedules."""
