"""The pxar archive format, versions 1 and 2, and the pcat1 catalog."""
