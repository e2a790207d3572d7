"""Streamed tar archives: members in pieces of any length, and nothing that leads elsewhere."""

import io
import tarfile
from dataclasses import dataclass, field

import pytest

from holdfast.errors import DamagedData
from holdfast.postgres.tar_stream import Member, MemberKind, TarStream


@dataclass
class Taken:
    """What came, as (member, content)."""

    members: list[tuple[Member, bytes]] = field(default_factory=list)
    open_files: int = 0

    def begin(self, member: Member) -> None:
        self.members.append((member, b""))
        self.open_files += member.kind is MemberKind.FILE

    def content(self, piece: memoryview) -> None:
        member, before = self.members[-1]
        self.members[-1] = member, before + bytes(piece)

    def end(self) -> None:
        self.open_files -= 1


def tar(*members: tuple[str, bytes, bytes]) -> bytes:
    """An archive of (name, type, content)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mode, info.mtime = kind, len(content), 0o640, 1_700_000_000
            if kind == tarfile.SYMTYPE:
                info.linkname = "/elsewhere"
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def read(data: bytes, step: int) -> Taken:
    taken = Taken()
    stream = TarStream(taken)
    for at in range(0, len(data), step):
        stream.feed(data[at : at + step])
    stream.close()
    return taken


GOOD = tar(
    ("./base", tarfile.DIRTYPE, b""),
    ("base/1", tarfile.REGTYPE, b"x" * 1300),
    ("base/empty", tarfile.REGTYPE, b""),
    ("pg_tblspc/16400", tarfile.SYMTYPE, b""),
    ("base/2", tarfile.REGTYPE, b"y" * 512),
)


@pytest.mark.parametrize("step", [1, 511, 512, 513, 100_000])
def test_members_come_whole_however_the_stream_is_cut(step: int) -> None:
    taken = read(GOOD, step)
    found = [(member.path, member.kind.name, content) for member, content in taken.members]
    assert found == [
        (b"base", "DIRECTORY", b""),
        (b"base/1", "FILE", b"x" * 1300),
        (b"base/empty", "FILE", b""),
        (b"pg_tblspc/16400", "LINK", b""),
        (b"base/2", "FILE", b"y" * 512),
    ]
    assert taken.open_files == 0
    assert {(member.mode, member.mtime_s) for member, _ in taken.members} == {
        (0o640, 1_700_000_000)
    }


def test_large_sizes_are_binary() -> None:
    info = tarfile.TarInfo("big")
    info.size = 9 << 30
    head = info.tobuf(tarfile.GNU_FORMAT)
    assert Member.parse(head).size == 9 << 30


@pytest.mark.parametrize(
    "data",
    [
        tar(("../up", tarfile.REGTYPE, b"x")),
        tar(("/etc/passwd", tarfile.REGTYPE, b"x")),
        tar(("a/../../b", tarfile.REGTYPE, b"x")),
        tar(("a//b", tarfile.REGTYPE, b"x")),
        tar(("device", tarfile.CHRTYPE, b"")),
        tar(("hard", tarfile.LNKTYPE, b"")),
        GOOD[:100] + b"9" + GOOD[101:],
        GOOD[:1000],
        GOOD[:512],
        GOOD + tar(("late", tarfile.REGTYPE, b"x")),
        b"x" * 1024,
    ],
)
def test_what_no_server_sends_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedData, match="server sent"):
        read(data, 4096)


def test_any_flipped_byte_of_a_header_is_noticed() -> None:
    for at in range(512):
        damaged = bytearray(GOOD)
        damaged[at] ^= 0x41
        with pytest.raises(DamagedData):
            read(bytes(damaged), 4096)
