"""What the configuration decides about one store; nothing of it is kept inside the store."""

from dataclasses import dataclass
from enum import StrEnum


class SyncLevel(StrEnum):
    """How hard new data is pushed to the disk before a backup counts as done."""

    NONE = "none"
    FILE = "file"  # every new chunk and its directory
    FILESYSTEM = "filesystem"  # everything once, at the end of a backup


class ChunkOrder(StrEnum):
    """In which order verification reads chunks."""

    INODE = "inode"  # as they lie on a rotating disk
    NONE = "none"  # as the index names them


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """Choices of one store."""

    sync_level: SyncLevel = SyncLevel.FILESYSTEM
    chunk_order: ChunkOrder = ChunkOrder.INODE
    verify_new: bool = False
