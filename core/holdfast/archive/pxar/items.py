"""Reads items out of an archive, however hostile, and puts them together to entries.

Used by the decoder, which goes through an archive from front to back, and by the accessor, which
jumps. Sizes are checked before anything is read, nothing is read beyond a given limit, and what
one entry may take in memory is bounded.
"""

import stat as stat_bits
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from holdfast.archive.pxar import format as pxar
from holdfast.archive.pxar.format import (
    HEADER,
    HEADER_BYTES,
    NAME_BYTES_MAX,
    NUMBER,
    PAIR,
    QUADRUPLE,
    Acl,
    AclDefault,
    AclEntry,
    Kind,
    Metadata,
    Stat,
    Xattr,
    name_problem,
)
from holdfast.errors import DamagedData
from holdfast.units import KIB, MIB

Buffer = bytes | bytearray | memoryview

ATTRIBUTE_BYTES_MAX: Final = 64 * MIB  # of one entry, in sum; ours
_BLOCK_BYTES: Final = 32 * KIB
_LITTLE_BLOCK_BYTES: Final = 2 * KIB
_U32_MAX: Final = (1 << 32) - 1
_NS_PER_S: Final = 1_000_000_000
_NAME_ITEM_BYTES: Final = HEADER_BYTES + 256  # of names as the usual file systems allow them
_FILE_ITEMS: Final = struct.Struct("<QQQQIIqI4xQQQQ")  # ENTRY and PAYLOAD_REF of a plain file
_CHILD_BYTES: Final = _NAME_ITEM_BYTES + _FILE_ITEMS.size


class Source(Protocol):
    """Random access to a stream; a StreamReader of the datastore is one."""

    @property
    def size(self) -> int: ...

    def read_at(self, offset: int, length: int) -> Buffer:
        """Exactly `length` bytes from `offset`."""

    def view_at(self, offset: int, length: int) -> memoryview:
        """From 1 to `length` bytes from `offset`, as many as are at hand."""

    def pieces(self, start: int, end: int) -> Iterator[memoryview]:
        """The bytes of a range in order, in pieces of any size."""


class Entry(NamedTuple):
    """One thing in an archive. Positions are those of its items in the (metadata) stream."""

    name: bytes
    kind: Kind
    metadata: Metadata | None  # None for hard links
    start: int  # FILENAME; for the root the first byte
    entry_start: int  # ENTRY, or HARDLINK
    end: int  # first byte behind it; -1 for a directory whose end was not reached yet
    size: int = 0  # of a file's content
    payload: int = -1  # version 1: first byte of the content; version 2: PAYLOAD in its stream
    body: int = -1  # of a directory: where its first child begins
    target: bytes = b""  # of a link
    distance: int = 0  # of a hard link: bytes back to FILENAME of the first name
    device: tuple[int, int] | None = None
    problem: str | None = None  # why it must not be restored, though the rest can be


class Step(NamedTuple):
    """A stop on the way through a tree; a directory is met twice."""

    path: bytes  # from the root, without a leading slash
    entry: Entry
    leaving: bool = False


class Window:
    """A stretch of a source kept in memory, moved on demand."""

    def __init__(self, source: Source, what: str) -> None:
        self.what = what
        self.size = source.size
        self._source = source
        self._start = 0
        self._stop = 0
        self._data: Buffer = b""
        self._block_bytes = _BLOCK_BYTES

    def read_little(self) -> None:
        """Contents stand between the entries: what follows an entry is of no use."""
        self._block_bytes = _LITTLE_BLOCK_BYTES

    def at(self, offset: int, length: int) -> tuple[Buffer, int]:
        """A buffer and the index in it where `length` bytes from `offset` begin."""
        index = offset - self._start
        if index >= 0 and offset + length <= self._stop:
            return self._data, index
        if offset < 0 or offset + length > self.size:
            raise self.damaged(offset, "an item reaches beyond the end")
        wanted = max(length, min(self._block_bytes, self.size - offset))
        data = self._source.read_at(offset, wanted)
        if len(data) != wanted:
            raise self.damaged(offset, "it ends early")
        if length <= _BLOCK_BYTES:
            self._start, self._stop, self._data = offset, offset + wanted, data
        return data, 0

    def bytes_at(self, offset: int, length: int) -> bytes:
        data, index = self.at(offset, length)
        return bytes(data[index : index + length])

    def header_at(self, offset: int, limit: int) -> tuple[int, int]:
        """Type and size of the item at `offset`, which ends at `limit` or before."""
        data, index = self.at(offset, HEADER_BYTES)
        kind, size = HEADER.unpack_from(data, index)
        if size < HEADER_BYTES or offset + size > limit:
            raise self.damaged(offset, f"an item of {size} bytes does not fit")
        return kind, size

    def damaged(self, offset: int, reason: str) -> DamagedData:
        return DamagedData(self.what, f"at byte {offset}: {reason}")


# Whole entries -------------------------------------------------------------------------------


def read_child(window: Window, start: int, limit: int, *, is_split: bool) -> Entry:
    """The entry whose FILENAME is at `start` and which ends at `limit` or before.

    Of a directory only what stands before its first child is read.

    Raises:
        DamagedData: this is no entry.
    """
    if start + HEADER_BYTES > limit:
        raise window.damaged(start, "an entry begins where none fits")
    data, index = window.at(start, min(_CHILD_BYTES, limit - start))
    kind, size = HEADER.unpack_from(data, index)
    if kind != pxar.FILENAME or size < HEADER_BYTES or start + size > limit:
        raise window.damaged(start, "there is no name where an entry should begin")
    if size > NAME_BYTES_MAX + 17:
        raise window.damaged(start, "a name that is too long")
    wanted = size + _FILE_ITEMS.size
    if size > _NAME_ITEM_BYTES:
        data, index = window.at(start, min(wanted, limit - start))
    name = bytes(data[index + HEADER_BYTES : index + size])
    if name[-1:] != b"\0":
        raise window.damaged(start, "a name without its end")
    name = name[:-1]
    if not name or b"/" in name or b"\0" in name or name in (b".", b".."):
        raise window.damaged(start, f"{name_problem(name)} as the name of an entry")
    if is_split and start + wanted <= limit:
        fields = _FILE_ITEMS.unpack_from(data, index + size)
        if (
            fields[0] == pxar.ENTRY
            and fields[8] == pxar.PAYLOAD_REF
            and fields[1] == pxar.ENTRY_BYTES
            and fields[9] == pxar.REF_BYTES
            and fields[2] >> 12 == 0o10  # noqa: PLR2004 - a regular file
            and fields[7] < _NS_PER_S
        ):
            return Entry(
                name,
                Kind.FILE,
                Metadata(Stat._make(fields[2:8])),
                start,
                start + size,
                start + wanted,
                fields[11],
                fields[10],
            )
    return _read_entry(window, name, start, start + size, limit, is_split=is_split)


def read_root(window: Window, entry_start: int, *, is_split: bool) -> Entry:
    """The root directory, whose ENTRY is at `entry_start` (DamagedData)."""
    root = _read_entry(window, b"", 0, entry_start, window.size, is_split=is_split)
    if root.kind is not Kind.DIRECTORY or root.problem is not None:
        raise window.damaged(entry_start, "the root is no directory")
    return root


def _read_entry(
    window: Window, name: bytes, start: int, position: int, limit: int, *, is_split: bool
) -> Entry:
    entry_start = position
    kind, size = window.header_at(position, limit)
    if kind == pxar.HARDLINK:
        return _hardlink(window, name, start, position, size)
    stat = _stat(window, position, kind, size)
    position += size
    found = _Attributes(window)
    kind, size = window.header_at(position, limit)
    while (read := _ATTRIBUTES.get(kind)) is not None:
        found.take(position, size, read)
        position += size
        kind, size = window.header_at(position, limit)
    metadata = found.metadata(stat)
    entry = Entry(name, Kind.FILE, metadata, start, entry_start, position + size)
    end = _ENDS.get(kind)
    if end is not None:
        entry = end(window, entry, position, is_split)
    elif kind in (pxar.FILENAME, pxar.GOODBYE):
        entry = _without_end(entry, position)
    else:
        raise window.damaged(position, f"an item of type {kind:016x} has no business here")
    if stat.kind is not entry.kind and entry.problem is None:
        entry = entry._replace(problem="its type and its content contradict each other")
    return entry


def _without_end(entry: Entry, position: int) -> Entry:
    """Nothing follows the metadata: a fifo, a socket or a directory."""
    assert entry.metadata is not None
    kind = entry.metadata.stat.kind
    if kind is Kind.FIFO or kind is Kind.SOCKET:
        return entry._replace(kind=kind, end=position)
    return entry._replace(kind=Kind.DIRECTORY, end=-1, body=position)


def _stat(window: Window, position: int, kind: int, size: int) -> Stat:
    if kind == pxar.ENTRY and size == pxar.ENTRY_BYTES:
        data, index = window.at(position + HEADER_BYTES, pxar.STAT.size)
        stat = Stat._make(pxar.STAT.unpack_from(data, index))
    elif kind == pxar.ENTRY_V1 and size == HEADER_BYTES + pxar.STAT_V1.size:
        data, index = window.at(position + HEADER_BYTES, pxar.STAT_V1.size)
        mode, flags, uid, gid, mtime = pxar.STAT_V1.unpack_from(data, index)
        stat = Stat(mode, flags, uid, gid, *divmod(mtime, _NS_PER_S))
    else:
        raise window.damaged(position, "a name is not followed by its entry")
    if stat.mode >> 16 or stat.mtime_ns >= _NS_PER_S:
        raise window.damaged(position, "mode or time that no file can have")
    return stat


def _hardlink(window: Window, name: bytes, start: int, position: int, size: int) -> Entry:
    if not HEADER_BYTES + 9 <= size <= HEADER_BYTES + 9 + NAME_BYTES_MAX:
        raise window.damaged(position, "a hard link of impossible size")
    content = window.bytes_at(position + HEADER_BYTES, size - HEADER_BYTES)
    (distance,) = NUMBER.unpack_from(content)
    path = content[8:-1]
    problem = None
    if not 0 < distance <= start:
        problem = "a hard link that points to no earlier entry"
    elif any(part in (b"", b".", b"..") for part in path.split(b"/")) or b"\0" in path:
        problem = "a hard link to a path outside the archive"
    return Entry(
        name, Kind.HARDLINK, None, start, position, position + size,
        target=path, distance=distance, problem=problem,
    )  # fmt: skip


# What ends an entry --------------------------------------------------------------------------


def _payload(window: Window, entry: Entry, position: int, is_split: bool) -> Entry:  # noqa: FBT001
    if is_split:
        raise window.damaged(position, "a file's content stands in the stream of entries")
    start = position + HEADER_BYTES
    return entry._replace(size=entry.end - start, payload=start)


def _payload_ref(window: Window, entry: Entry, position: int, is_split: bool) -> Entry:  # noqa: FBT001
    if not is_split or entry.end - position != pxar.REF_BYTES:
        raise window.damaged(position, "a reference to a content that cannot be there")
    data, index = window.at(position + HEADER_BYTES, 16)
    offset, size = PAIR.unpack_from(data, index)
    return entry._replace(size=size, payload=offset)


def _symlink(window: Window, entry: Entry, position: int, _is_split: bool) -> Entry:  # noqa: FBT001
    size = entry.end - position
    if not HEADER_BYTES < size <= HEADER_BYTES + NAME_BYTES_MAX + 1:
        raise window.damaged(position, "a symbolic link of impossible size")
    target = window.bytes_at(position + HEADER_BYTES, size - HEADER_BYTES)[:-1]
    problem = None
    if not target or b"\0" in target:
        problem = "a symbolic link without a target that can exist"
    return entry._replace(kind=Kind.SYMLINK, target=target, problem=problem)


def _device(window: Window, entry: Entry, position: int, _is_split: bool) -> Entry:  # noqa: FBT001
    if entry.end - position != HEADER_BYTES + PAIR.size:
        raise window.damaged(position, "a device of impossible size")
    data, index = window.at(position + HEADER_BYTES, PAIR.size)
    major, minor = PAIR.unpack_from(data, index)
    assert entry.metadata is not None
    is_block = stat_bits.S_ISBLK(entry.metadata.stat.mode)
    problem = "a device with an impossible number" if max(major, minor) > _U32_MAX else None
    return entry._replace(
        kind=Kind.BLOCK if is_block else Kind.CHAR, device=(major, minor), problem=problem
    )


_ENDS: Final[dict[int, Callable[[Window, Entry, int, bool], Entry]]] = {
    pxar.PAYLOAD: _payload,
    pxar.PAYLOAD_REF: _payload_ref,
    pxar.SYMLINK: _symlink,
    pxar.DEVICE: _device,
}


# Attributes ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Attributes:
    """The items between ENTRY and the end of an entry, in whatever order they come."""

    window: Window
    total_bytes: int = 0
    xattrs: list[Xattr] = field(default_factory=list)
    named: dict[int, list[AclEntry]] = field(default_factory=dict)
    group_obj: int | None = None
    default: AclDefault | None = None
    fcaps: bytes | None = None
    projid: int | None = None

    def take(
        self, position: int, size: int, read: "Callable[[_Attributes, int, bytes], str | None]"
    ) -> None:
        self.total_bytes += size
        if size > HEADER_BYTES + pxar.XATTR_BYTES_MAX or self.total_bytes > ATTRIBUTE_BYTES_MAX:
            raise self.window.damaged(position, "attributes of impossible size")
        item = self.window.bytes_at(position, size)
        (kind,) = NUMBER.unpack_from(item)
        problem = read(self, kind, item[HEADER_BYTES:])
        if problem is not None:
            raise self.window.damaged(position, problem)

    def metadata(self, stat: Stat) -> Metadata:
        if not self.total_bytes:
            return Metadata(stat)
        acl = None
        if self.named or self.group_obj is not None or self.default is not None:
            users, groups, default_users, default_groups = (
                tuple(self.named.get(kind, ())) for kind in _NAMED_KINDS
            )
            acl = Acl(users, groups, self.group_obj, self.default, default_users, default_groups)
        return Metadata(stat, tuple(self.xattrs), acl, self.fcaps, self.projid)


def _take_xattr(found: _Attributes, _kind: int, content: bytes) -> str | None:
    name, nul, value = content.partition(b"\0")
    if not nul or len(name) > pxar.XATTR_NAME_BYTES_MAX:
        return "an extended attribute without a name that ends"
    found.xattrs.append(Xattr(name, value))
    return None


def _take_named(found: _Attributes, kind: int, content: bytes) -> str | None:
    if len(content) != PAIR.size:
        return "an access list entry of impossible size"
    entry = AclEntry._make(PAIR.unpack(content))
    if entry.id > _U32_MAX or entry.perms > 7:  # noqa: PLR2004 - rwx
        return "an access list entry that cannot exist"
    found.named.setdefault(kind, []).append(entry)
    return None


def _take_group_obj(found: _Attributes, _kind: int, content: bytes) -> str | None:
    if len(content) != NUMBER.size or found.group_obj is not None:
        return "a second or malformed owning group entry"
    (found.group_obj,) = NUMBER.unpack(content)
    return None


def _take_default(found: _Attributes, _kind: int, content: bytes) -> str | None:
    if len(content) != QUADRUPLE.size or found.default is not None:
        return "a second or malformed default access list"
    found.default = AclDefault._make(QUADRUPLE.unpack(content))
    return None


def _take_fcaps(found: _Attributes, _kind: int, content: bytes) -> str | None:
    if found.fcaps is not None:
        return "a second set of file capabilities"
    found.fcaps = content
    return None


def _take_projid(found: _Attributes, _kind: int, content: bytes) -> str | None:
    if len(content) != NUMBER.size or found.projid is not None:
        return "a second or malformed project id"
    (found.projid,) = NUMBER.unpack(content)
    return "a project id that cannot exist" if found.projid > _U32_MAX else None


_NAMED_KINDS: Final = (
    pxar.ACL_USER,
    pxar.ACL_GROUP,
    pxar.ACL_DEFAULT_USER,
    pxar.ACL_DEFAULT_GROUP,
)
_ATTRIBUTES: Final[dict[int, Callable[[_Attributes, int, bytes], str | None]]] = {
    pxar.XATTR: _take_xattr,
    **dict.fromkeys(_NAMED_KINDS, _take_named),
    pxar.ACL_GROUP_OBJ: _take_group_obj,
    pxar.ACL_DEFAULT: _take_default,
    pxar.FCAPS: _take_fcaps,
    pxar.QUOTA_PROJID: _take_projid,
}
