"""Trees of files: walked, encoded as pxar, restored."""
