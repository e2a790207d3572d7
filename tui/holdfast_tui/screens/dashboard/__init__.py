"""The view dashboard."""
