"""Tar archives as a server streams them: POSIX ustar, in pieces of any length.

A member is a header of 512 bytes and its content, filled up to a multiple of 512; zeroes end the
archive. Header: name 100 bytes, mode 8, uid 8, gid 8, size 12, time 12, checksum 8, type 1, target
of a link 100, magic `ustar` 6; numbers in octal digits, or in 95 bits behind a first byte of 0x80.
Servers know no longer names and no other kinds than files, directories and symbolic links. Source:
PostgreSQL, src/port/tar.c.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from holdfast.errors import DamagedData

BLOCK_BYTES: Final = 512
_ZERO: Final = bytes(BLOCK_BYTES)
_SIZE_MAX: Final = 1 << 50
_TIME_MAX: Final = 253_402_300_799  # the end of the year 9999
_WHAT: Final = "the archive that the server sent"


class MemberKind(Enum):
    """What a member is."""

    FILE = b"0"
    DIRECTORY = b"5"
    LINK = b"2"


@dataclass(frozen=True, slots=True)
class Member:
    """One member's header, checked.

    Attributes:
        path: relative, without `.` and `..`, without slashes at the ends; empty for the root.
        size: of the content, bytes; 0 unless it is a file.
        mode: permission bits.
        mtime_s: seconds since 1970.
    """

    path: bytes
    kind: MemberKind
    size: int
    mode: int
    mtime_s: int

    @classmethod
    def parse(cls, head: bytes) -> "Member":
        """Read 512 bytes (DamagedData)."""
        if head[257:262] != b"ustar":
            raise DamagedData(_WHAT, "a member without a header")
        total = sum(head[:148]) + 8 * ord(" ") + sum(head[156:])
        if _number(head[148:156]) != total:
            raise DamagedData(_WHAT, "a header whose checksum is wrong")
        try:
            kind = MemberKind(head[156:157])
        except ValueError:
            raise DamagedData(_WHAT, "a member of a kind that no server sends") from None
        name, prefix = _text(head[:100]), _text(head[345:500])
        path = _relative(prefix + b"/" + name if prefix else name)
        size, mtime = _number(head[124:136]), _number(head[136:148])
        if size > _SIZE_MAX or mtime > _TIME_MAX:
            raise DamagedData(_WHAT, "a number that cannot be")
        if kind is not MemberKind.FILE and size:
            raise DamagedData(_WHAT, "a directory or link with content")
        return cls(path, kind, size, _number(head[100:108]) & 0o7777, mtime)


class Receiver(Protocol):
    """Takes members in order."""

    def begin(self, member: Member) -> None:
        """A member follows."""
        ...

    def content(self, piece: memoryview) -> None:
        """Part of the file that began."""
        ...

    def end(self) -> None:
        """That was all of the file."""
        ...


class TarStream:
    """One archive, fed piece by piece.

    Args:
        receiver: what is done with the members.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._head = bytearray()
        self._left = 0  # bytes of content to come
        self._padding = 0
        self._is_at_end = False

    def feed(self, data: bytes) -> None:
        """The next bytes (DamagedData, and what the receiver raises)."""
        view = memoryview(data)
        while view:
            if self._left:
                piece, view = view[: self._left], view[self._left :]
                self._receiver.content(piece)
                self._left -= len(piece)
                if not self._left:
                    self._receiver.end()
            elif self._padding:
                skipped = min(self._padding, len(view))
                view = view[skipped:]
                self._padding -= skipped
            else:
                wanted = BLOCK_BYTES - len(self._head)
                self._head += view[:wanted]
                view = view[wanted:]
                if len(self._head) == BLOCK_BYTES:
                    self._begin(bytes(self._head))
                    self._head.clear()

    def close(self) -> None:
        """No more comes (DamagedData: the archive is not complete)."""
        if not self._is_at_end or self._head or self._left or self._padding:
            raise DamagedData(_WHAT, "it ends too early")

    def _begin(self, head: bytes) -> None:
        if head == _ZERO:
            self._is_at_end = True
            return
        if self._is_at_end:
            raise DamagedData(_WHAT, "it goes on behind its end")
        member = Member.parse(head)
        self._receiver.begin(member)
        if member.kind is MemberKind.FILE:
            self._left, self._padding = member.size, -member.size % BLOCK_BYTES
            if not self._left:
                self._receiver.end()


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    if field[0] == 0x80:  # noqa: PLR2004  # the mark of a binary number
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if digits.translate(None, b"01234567"):
        raise DamagedData(_WHAT, "a number that is none")
    return int(digits, 8)


def _relative(name: bytes) -> bytes:
    """The path of a member as we write it (DamagedData: it leads elsewhere)."""
    path = name.removeprefix(b"./").removesuffix(b"/")
    if path in (b"", b"."):
        return b""
    if any(part in (b"", b".", b"..") for part in path.split(b"/")):
        raise DamagedData(_WHAT, "a path that leads elsewhere")
    return path
