"""The view detail."""
