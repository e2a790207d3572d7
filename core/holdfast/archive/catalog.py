"""`catalog.pcat1`: names, kinds, sizes and times of a snapshot's version 1 archives, to browse.

    0      8  magic
    8      .  directory blocks, children before parents
    end-8  8  u64 little-endian: position of the last block, whose entries are the archives

Block: uvarint bytes that follow, uvarint entries, then each entry: u8 type, uvarint name length,
name, and for `d` uvarint distance (this block back to the child's), for `f` uvarint size and
svarint mtime in seconds. Types: d f l(ink) h(ard link) b c p(ipe) s(ocket).

uvarint: 7 bits a byte, lowest first, bit 7 set on all but the last. svarint: the same for values
from 0; a negative one is its magnitude with bit 7 set on every byte, then 00.
Source: Proxmox Backup, "File formats", catalog. Story: docs/formats/pxar.md, "Catalog".
"""

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from holdfast.archive.pxar.format import NAME_BYTES_MAX, Kind
from holdfast.archive.pxar.items import Source
from holdfast.errors import BadRequest, DamagedData
from holdfast.units import MIB

MAGIC: Final = bytes((0x91, 0xFD, 0x60, 0xF9, 0xC4, 0x67, 0x58, 0xD5))
FILE_NAME: Final = "catalog.pcat1.didx"
_WHAT: Final = "catalog"
_VARINT_BYTES_MAX: Final = 10
_BLOCK_BYTES_MAX: Final = 256 * MIB  # ours
_TRAILER_BYTES: Final = 8

KIND_OF_LETTER: Final = {
    ord("d"): Kind.DIRECTORY,
    ord("f"): Kind.FILE,
    ord("l"): Kind.SYMLINK,
    ord("h"): Kind.HARDLINK,
    ord("b"): Kind.BLOCK,
    ord("c"): Kind.CHAR,
    ord("p"): Kind.FIFO,
    ord("s"): Kind.SOCKET,
}
LETTER_OF_KIND: Final = {kind: bytes((letter,)) for letter, kind in KIND_OF_LETTER.items()}


def uvarint(value: int) -> bytes:
    """`value` from 0 to 2^64 - 1."""
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)
    return bytes(out)


def svarint(value: int) -> bytes:
    """`value` from -2^63 to 2^63 - 1."""
    if value >= 0:
        return uvarint(value)
    magnitude = bytearray(uvarint(-value))
    magnitude[-1] |= 0x80
    return bytes(magnitude) + b"\0"


def read_uvarint(data: bytes, at: int) -> tuple[int, int]:
    """Value and the position behind it (DamagedData)."""
    value = 0
    for shift in range(_VARINT_BYTES_MAX):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:  # noqa: PLR2004
            if value >> 64:
                break
            return value, at
    raise DamagedData(_WHAT, "a number that does not end")


def read_svarint(data: bytes, at: int) -> tuple[int, int]:
    """Value and the position behind it (DamagedData)."""
    magnitude = 0
    for shift in range(_VARINT_BYTES_MAX + 1):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        if byte == 0:
            return -magnitude, at
        magnitude |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:  # noqa: PLR2004
            return magnitude, at
        if magnitude >> 64:
            break
    raise DamagedData(_WHAT, "a number that does not end")


class Sink(Protocol):
    """Where the catalog goes; a StreamWriter of the datastore is one."""

    def write(self, data: bytes, /) -> object: ...


class CatalogWriter:
    """Follows the encoder of every archive of a snapshot; archives are the first level."""

    def __init__(self, out: Sink) -> None:
        self._out = out
        self._position = len(MAGIC)
        out.write(MAGIC)
        self._open: list[tuple[bytes, list[bytes], list[tuple[int, int]]]] = [(b"", [], [])]

    def begin_directory(self, name: bytes) -> None:
        """An archive (such as `root.pxar.didx`) or a directory in it."""
        self._open.append((name, [], []))

    def end_directory(self) -> None:
        if len(self._open) == 1:
            raise BadRequest("the catalog has no open directory to end")
        name, entries, children = self._open.pop()
        start = self._write_block(entries, children)
        _name, above, places = self._open[-1]
        places.append((len(above), start))
        above.append(b"d" + uvarint(len(name)) + name)

    def file(self, name: bytes, size: int, mtime_s: int) -> None:
        entry = b"f" + uvarint(len(name)) + name + uvarint(size) + svarint(mtime_s)
        self._open[-1][1].append(entry)

    def other(self, name: bytes, kind: Kind) -> None:
        """Anything but a directory or regular file."""
        self._open[-1][1].append(LETTER_OF_KIND[kind] + uvarint(len(name)) + name)

    def finish(self) -> None:
        """Write the catalog's root; the sink stays open."""
        if len(self._open) != 1:
            raise BadRequest("directories of the catalog are still open")
        _name, entries, children = self._open.pop()
        start = self._write_block(entries, children)
        self._out.write(start.to_bytes(_TRAILER_BYTES, "little"))

    def _write_block(self, entries: list[bytes], children: list[tuple[int, int]]) -> int:
        start = self._position
        for number, place in children:
            entries[number] += uvarint(start - place)
        body = uvarint(len(entries)) + b"".join(entries)
        block = uvarint(len(body)) + body
        self._out.write(block)
        self._position += len(block)
        return start


class CatalogEntry(NamedTuple):
    name: bytes
    kind: Kind
    size: int = 0
    mtime_s: int = 0
    block: int = 0  # of a directory: position of its entries


class CatalogReader:
    """A catalog to browse; every block is checked when it is read."""

    def __init__(self, source: Source) -> None:
        """Check the magic and find the root (DamagedData)."""
        self._source = source
        if source.size < len(MAGIC) + 2 + _TRAILER_BYTES or bytes(source.read_at(0, 8)) != MAGIC:
            raise DamagedData(_WHAT, "it does not begin like one")
        trailer = source.read_at(source.size - _TRAILER_BYTES, _TRAILER_BYTES)
        self.root = CatalogEntry(b"", Kind.DIRECTORY, block=int.from_bytes(trailer, "little"))

    def children(self, directory: CatalogEntry) -> list[CatalogEntry]:
        """The entries of a directory in archive order (DamagedData)."""
        start = directory.block
        end = self._source.size - _TRAILER_BYTES
        if not len(MAGIC) <= start < end:
            raise DamagedData(_WHAT, "a directory lies outside of it")
        head = bytes(self._source.read_at(start, min(_VARINT_BYTES_MAX, end - start)))
        length, skip = read_uvarint(head, 0)
        if not 0 < length <= min(end - start - skip, _BLOCK_BYTES_MAX):
            raise DamagedData(_WHAT, "a directory reaches beyond its end")
        return _entries(bytes(self._source.read_at(start + skip, length)), start)

    def lookup(self, path: bytes) -> CatalogEntry | None:
        """The entry at `path`, which begins with the archive's name; None if absent."""
        entry = self.root
        for part in path.split(b"/"):
            if not part:
                continue
            if entry.kind is not Kind.DIRECTORY:
                return None
            found = next((one for one in self.children(entry) if one.name == part), None)
            if found is None:
                return None
            entry = found
        return entry

    def walk(self) -> Iterator[tuple[bytes, CatalogEntry]]:
        """Path and entry of everything, parents first.

        Blocks may be shared in a crafted catalog, so as many entries as the catalog has bytes are
        the most there can be (DamagedData).
        """
        left = self._source.size
        opened = [(b"", iter(self.children(self.root)))]
        while opened:
            here, entries = opened[-1]
            entry = next(entries, None)
            if entry is None:
                opened.pop()
                continue
            left -= 1
            if left < 0:
                raise DamagedData(_WHAT, "its directories are shared or nested without end")
            path = here + b"/" + entry.name if here else entry.name
            yield path, entry
            if entry.kind is Kind.DIRECTORY:
                if len(path) > MIB:
                    raise DamagedData(_WHAT, "its directories are nested too deep")
                opened.append((path, iter(self.children(entry))))


def _entries(data: bytes, start: int) -> list[CatalogEntry]:
    count, at = read_uvarint(data, 0)
    if count * 3 > len(data) - at:
        raise DamagedData(_WHAT, "a directory with more entries than bytes")
    entries: list[CatalogEntry] = []
    for _ in range(count):
        entry, at = _entry(data, at, start)
        entries.append(entry)
    if at != len(data):
        raise DamagedData(_WHAT, "a directory with bytes left over")
    return entries


def _entry(data: bytes, at: int, start: int) -> tuple[CatalogEntry, int]:
    kind = KIND_OF_LETTER.get(data[at]) if at < len(data) else None
    if kind is None:
        raise DamagedData(_WHAT, "an entry of unknown kind")
    length, at = read_uvarint(data, at + 1)
    name = data[at : at + length]
    if not 0 < length < NAME_BYTES_MAX or len(name) != length or b"\0" in name or b"/" in name:
        raise DamagedData(_WHAT, "an entry with an impossible name")
    at += length
    if kind is Kind.DIRECTORY:
        distance, at = read_uvarint(data, at)
        if not 0 < distance <= start - len(MAGIC):
            raise DamagedData(_WHAT, "a directory that does not lie before the one above it")
        return CatalogEntry(name, kind, block=start - distance), at
    if kind is Kind.FILE:
        size, at = read_uvarint(data, at)
        mtime_s, at = read_svarint(data, at)
        return CatalogEntry(name, kind, size, mtime_s), at
    return CatalogEntry(name, kind), at
