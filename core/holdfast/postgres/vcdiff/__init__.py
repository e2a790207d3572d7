"""VCDIFF, the delta format of RFC 3284, as far as differences of relation files need it."""
