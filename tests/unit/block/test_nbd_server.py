"""The NBD server: byte for byte what QEMU's says, and calm with clients that lie."""

import asyncio
import errno
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from tests.harness.nbd import MemoryNode, serving, serving_exports
from tests.harness.vectors import load

from holdfast.block.dirty_bitmap import DirtyBitmap
from holdfast.block.nbd_client import NbdClient
from holdfast.block.nbd_export import Export, Status
from holdfast.block.nbd_protocol import NbdError, Option, option_request
from holdfast.block.nbd_server import NbdServer
from holdfast.block.node import Access
from holdfast.block.tracked_image import TrackedImage
from holdfast.errors import BadRequest, Busy
from holdfast.units import KIB, MIB

TRANSCRIPTS = load("block", "nbd_transcripts")
SESSIONS = TRANSCRIPTS.get("sessions") or TRANSCRIPTS["transcripts"]
EPERM_FOR_READ_ONLY = (
    "668e33ef000180010000000000000001000000190000001600134578706f7274",
    "668e33ef000180010000000000000001000000190000000100134578706f7274",
)


def _recorded_server() -> NbdServer:
    """Exports like those the sessions were recorded with."""
    disk, read_only = MemoryNode(MIB), MemoryNode(MIB)
    disk.data[: 64 * KIB] = bytes(range(256)) * 256
    disk.data[0] = 0x5A  # the first session wrote it, the second reads it
    disk.allocated = set(range(16))
    bitmap = DirtyBitmap(name="bk", size_bytes=MIB)
    image = TrackedImage(disk, {"bk": bitmap})
    export = Export.of("disk0", image, description="demo")

    async def depth(_offset: int, length: int) -> Status:
        return [(length, 1)]

    export.contexts["qemu:allocation-depth"] = depth
    export.contexts.update(Export.of("x", image, bitmaps=[bitmap]).contexts)
    ro = Export.of("ro", read_only, access=Access.READ_ONLY)
    return NbdServer({"disk0": export, "ro": ro})


def _ours(label: str, answer: str) -> str:
    """The recorded answer, with the protocol's own number for a read-only export."""
    return answer.replace(*EPERM_FOR_READ_ONLY) if "read-only" in label else answer


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            break
        data += more
    return data


@pytest.mark.parametrize("session", SESSIONS, ids=lambda s: s["title"].split()[0])
def test_sessions_are_those_recorded_from_qemu(session: dict[str, Any]) -> None:
    steps = next(value for value in session.values() if isinstance(value, list))
    with serving(_recorded_server) as path, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(path)
        for step in steps:
            data = bytes.fromhex(step["hex"])
            if step["dir"] == "c2s":
                connection.sendall(data)
            else:
                expected = _ours(step["label"], step["hex"])
                assert _receive(connection, len(data)).hex() == expected, step["label"]
        assert connection.recv(1) == b""  # after DISC and ABORT the server closes


def test_clients_see_each_others_writes_and_flushes_reach_the_node() -> None:
    node = MemoryNode(4 * MIB)
    with (
        serving_exports(Export.of("d", node)) as address,
        NbdClient.connect(address) as one,
        NbdClient.connect(address) as other,
    ):
        one.write(3, b"hello" * 500_000)
        assert other.read(3, 2_500_000) == b"hello" * 500_000
        one.flush()
        assert node.flushes == 1
        other.write_zeroes(0, 2 * MIB)
        assert one.read(0, 2 * MIB) == bytes(2 * MIB)


def test_status_tells_holes_and_dirty_ranges() -> None:
    bitmap = DirtyBitmap(name="b", size_bytes=MIB)
    image = TrackedImage(MemoryNode(MIB), {"b": bitmap})
    export = Export.of("d", image, bitmaps=[bitmap])
    with serving_exports(export) as address:
        context = "qemu:dirty-bitmap:b"
        with NbdClient.connect(address, contexts=("base:allocation", context)) as client:
            client.write(128 * KIB, b"x" * 5000)
            zero = [(e.offset, e.length) for e in client.extents(0, MIB) if e.is_zero]
            assert zero == [(0, 128 * KIB), (136 * KIB, MIB - 136 * KIB)]
            dirty = [(at, n) for at, n, flags in client.status(context, 0, MIB) if flags]
            assert dirty == [(128 * KIB, 64 * KIB)]
            with pytest.raises(NbdError, match="does not offer"):
                list(client.status("qemu:dirty-bitmap:c", 0, MIB))


def test_errors_come_with_their_number_and_text() -> None:
    node = MemoryNode(MIB)
    node.allocated = set(range(256))
    node.fails_at = 500_000
    with serving_exports(Export.of("d", node, access=Access.READ_ONLY)) as address:
        with NbdClient.connect(address) as client:
            with pytest.raises(OSError, match="broken") as caught:
                client.read(0, MIB)
            assert caught.value.errno == errno.EIO
            with pytest.raises(OSError, match="read-only") as caught:
                client.write(0, b"x")
            assert caught.value.errno == errno.EPERM
            with pytest.raises(OSError, match="past EOF"):
                client.read(MIB - 1, 2)
            assert client.read(0, 400_000) == bytes(400_000)  # the connection lives on
        with pytest.raises(NbdError, match="not present"):
            NbdClient.connect(type(address)(export="no", socket_path=address.socket_path))


GREET = bytes.fromhex("00000003")
GO = option_request(Option.GO, struct.pack(">I", 1) + b"d" + struct.pack(">H", 0))
REQUEST = struct.Struct(">IHHQQI")
NONSENSE = {
    "an empty connection": b"",
    "unknown client flags": b"\xff\xff\xff\xff",
    "no option magic": GREET + b"x" * 16,
    "an option of four gigabytes": GREET + b"IHAVEOPT" + struct.pack(">II", 6, 0xFFFFFFFF),
    "a truncated option": GREET + b"IHAVEOPT" + struct.pack(">II", 6, 100) + b"abc",
    "no request magic": GREET + GO + b"y" * 28,
    "a write of four gigabytes": GREET
    + GO
    + REQUEST.pack(0x25609513, 0, 1, 1, 0, 0xFFFFFFFF)
    + b"z" * 100,
    "a truncated write": GREET + GO + REQUEST.pack(0x25609513, 0, 1, 1, 0, 1000) + b"z",
    "half a request": GREET + GO + b"\x25\x60\x95\x13\x00",
}


@pytest.mark.parametrize("data", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_ends_one_connection_and_nothing_else(data: bytes) -> None:
    node = MemoryNode(MIB)
    with serving_exports(Export.of("d", node)) as address:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(address.socket_path)
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        assert not any(node.data)
        with NbdClient.connect(address) as client:
            assert client.size_bytes == MIB


LYING_OPTIONS = {
    "a name longer than the option": struct.pack(">I", 100) + b"d",
    "a name of four gigabytes": struct.pack(">I", 0xFFFFFFFF),
    "more information types than there are": struct.pack(">I", 1) + b"d" + b"\xff\xff",
    "a name that is no text": struct.pack(">I", 1) + b"\xff" + b"\0\0",
    "a name with a NUL": struct.pack(">I", 1) + b"\0" + b"\0\0",
    "bytes behind the end": struct.pack(">I", 1) + b"d" + b"\0\0" + b"more",
}


@pytest.mark.parametrize("data", LYING_OPTIONS.values(), ids=LYING_OPTIONS.keys())
def test_lying_options_get_an_error_and_the_handshake_goes_on(data: bytes) -> None:
    with (
        serving_exports(Export.of("d", MemoryNode(MIB))) as address,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.settimeout(5)
        connection.connect(address.socket_path)
        connection.sendall(GREET + option_request(Option.GO, data))
        answer = _receive(connection, 18 + 20)
        assert answer[18 + 12 : 18 + 16].hex() == "80000003"
        connection.sendall(option_request(Option.ABORT))
        while connection.recv(65536):
            pass


async def test_a_socket_is_for_its_owner_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    server = NbdServer({})
    path = tmp_path / "s"
    await server.start_unix(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    await server.stop()
    assert not path.exists()


async def test_stopping_drops_clients_that_are_connected(tmp_path: Path) -> None:
    server = NbdServer({"d": Export.of("d", MemoryNode(MIB))})
    path = str(tmp_path / "s")
    await server.start_unix(path)
    reader, writer = await asyncio.open_unix_connection(path)
    await reader.readexactly(18)
    await server.stop()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_a_path_in_use_is_left_alone(tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.write_text("mine")
    with pytest.raises(BadRequest, match="no socket"):
        await NbdServer({}).start_unix(str(note))
    assert note.read_text() == "mine"
    first = NbdServer({})
    await first.start_unix(str(tmp_path / "s"))
    with pytest.raises(Busy):
        await NbdServer({}).start_unix(str(tmp_path / "s"))
    await first.stop()


async def test_the_socket_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    server = NbdServer({})
    await server.start_unix(path)
    await server.stop()
