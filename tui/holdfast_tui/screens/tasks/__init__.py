"""The view tasks."""
