"""How a backup finds unchanged files."""

from enum import StrEnum


class ChangeDetection(StrEnum):
    """Also decides the kind of archive."""

    METADATA = "metadata"  # split; unchanged metadata means unchanged content
    DATA = "data"  # split; everything is read
    LEGACY = "legacy"  # unified, with a catalog; everything is read
