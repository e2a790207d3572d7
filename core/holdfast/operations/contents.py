"""What a snapshot holds, in the words a person uses for it.

etc.pxar.didx                       etc.pxar
etc.mpxar.didx + etc.ppxar.didx     etc.pxar   (metadata and content apart)
drive-scsi0.img.fidx                drive-scsi0.img
fstab.conf.blob                     fstab.conf
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from holdfast.datastore.manifest import CryptMode, FileEntry

_SUFFIXES: Final = (".didx", ".fidx", ".blob")
_SPLIT: Final = {".mpxar": ".pxar", ".ppxar": ".pxar"}


def archive_name(filename: str) -> str:
    """The archive a stored file belongs to: without index suffix, split archives joined."""
    for suffix in _SUFFIXES:
        filename = filename.removesuffix(suffix)
    for part, whole in _SPLIT.items():
        if filename.endswith(part):
            return filename.removesuffix(part) + whole
    return filename


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One archive of a snapshot.

    Attributes:
        size: bytes of the streams or the image, before deduplication and compression.
        filenames: as stored, in the manifest's order.
    """

    name: str
    size: int
    crypt_mode: CryptMode
    filenames: tuple[str, ...]


def archives(files: Iterable[FileEntry]) -> tuple[Archive, ...]:
    """The archives of a manifest's files, in the order of their first file."""
    grouped: dict[str, list[FileEntry]] = {}
    for entry in files:
        grouped.setdefault(archive_name(entry.filename), []).append(entry)
    return tuple(
        Archive(
            name=name,
            size=sum(entry.size for entry in entries),
            crypt_mode=entries[0].crypt_mode,
            filenames=tuple(entry.filename for entry in entries),
        )
        for name, entries in grouped.items()
    )
