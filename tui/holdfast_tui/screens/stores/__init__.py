"""The view stores."""
