"""The view snapshots."""
