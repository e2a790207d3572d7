"""The view dedup."""
