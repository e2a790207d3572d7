"""What one pass over a tree stored."""

from dataclasses import dataclass


@dataclass(slots=True)
class TreeSummary:
    """Counts of one archive.

    Attributes:
        files: regular files, hard links among them.
        changed_files: files that were new or different, and so were read.
        content_bytes: content that was read.
        reused_bytes: content taken over from the previous snapshot without reading.
        size_bytes: of the archive's streams.
    """

    files: int = 0
    directories: int = 0
    others: int = 0
    changed_files: int = 0
    content_bytes: int = 0
    reused_bytes: int = 0
    size_bytes: int = 0
