"""Our NBD server with other people's clients, and our client with other people's servers."""

import asyncio
import json
import random
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.harness.nbd import event_loop, serving, serving_process

from holdfast.block.dirty_bitmap import DirtyBitmap
from holdfast.block.nbd_client import NbdClient
from holdfast.block.nbd_export import Export
from holdfast.block.nbd_protocol import NbdError, Option, option_request
from holdfast.block.nbd_server import NbdServer
from holdfast.block.nbd_uri import NbdAddress, server_tls_context
from holdfast.block.node import Access, FileNode
from holdfast.block.tracked_image import TrackedImage
from holdfast.units import KIB, MIB

SIZE = 16 * MIB


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """16 MiB: data, a hole, data."""
    path = tmp_path / "image"
    rng = random.Random(7)
    with path.open("wb") as out:
        out.write(rng.randbytes(3 * MIB + 512))
        out.seek(12 * MIB)
        out.write(rng.randbytes(100 * KIB))
        out.truncate(SIZE)
    return path


@contextmanager
def _served(image: Path, bitmap: DirtyBitmap | None = None) -> Iterator[str]:
    """The URI of our server."""
    node = FileNode.open(str(image), Access.READ_WRITE)
    bitmaps = {} if bitmap is None else {bitmap.name: bitmap}
    tracked = TrackedImage(node, bitmaps)
    export = Export.of("disk", tracked, bitmaps=bitmaps.values())
    with serving(lambda: NbdServer({"disk": export})) as path:
        yield f"nbd+unix:///disk?socket={path}"
    node.close()


def test_qemu_img_converts_and_compares_our_export(image: Path, tmp_path: Path) -> None:
    with _served(image) as uri:
        copy = tmp_path / "copy.qcow2"
        _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, str(copy))
        _run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", uri, str(copy))
        shown = json.loads(_run("qemu-img", "map", "-f", "raw", "--output=json", uri))
    zero = [(part["start"], part["length"]) for part in shown if part["zero"]]
    assert (3 * MIB + 4096, 9 * MIB - 4096) in zero


def test_qemu_io_writes_zeroes_trims_and_flushes_through_our_export(image: Path) -> None:
    before = image.read_bytes()
    bitmap = DirtyBitmap(name="b", size_bytes=SIZE)
    with _served(image, bitmap) as uri:
        steps = ["write -P 0xab 1M 64k", "write -z 2M 64k", "discard 0 4k", "write -f -P 7 8M 512"]
        args = [word for step in (*steps, "flush") for word in ("-c", step)]
        _run("qemu-io", "-f", "raw", *args, uri)
        dirty = json.loads(_run("nbdinfo", "--json", "--map=qemu:dirty-bitmap:b", uri))
    after = bytearray(before)
    after[MIB : MIB + 64 * KIB] = b"\xab" * 64 * KIB
    after[2 * MIB : 2 * MIB + 64 * KIB] = bytes(64 * KIB)
    after[:4096] = bytes(4096)
    after[8 * MIB : 8 * MIB + 512] = b"\x07" * 512
    assert image.read_bytes() == after
    found = [(part["offset"], part["length"]) for part in dirty if part["type"] == 1]
    grain = 64 * KIB
    assert found == [(0, grain), (MIB, grain), (2 * MIB, grain), (8 * MIB, grain)]


def test_nbdcopy_and_nbdinfo_understand_our_export(image: Path, tmp_path: Path) -> None:
    with _served(image) as uri:
        about = json.loads(_run("nbdinfo", "--json", uri))
        copy = tmp_path / "copy"
        _run("nbdcopy", uri, str(copy))
        assert copy.read_bytes() == image.read_bytes()
        copy.write_bytes(random.Random(8).randbytes(SIZE))
        _run("nbdcopy", "--flush", str(copy), uri)
        assert copy.read_bytes() == image.read_bytes()
        assert "disk" in _run("nbdinfo", "--list", uri.replace("/disk", "/"))
    export = about["exports"][0]
    assert export["export-size"] == SIZE
    assert export["can_fua"]
    assert export["can_multi_conn"]


def test_fio_verifies_what_it_wrote_through_our_export(image: Path) -> None:
    with _served(image) as uri:
        text = _run(
            "fio",
            "--name=t",
            "--ioengine=nbd",
            f"--uri={uri}",
            "--rw=randrw",
            "--bs=4k-64k",
            "--size=16m",
            "--io_size=24m",
            "--iodepth=16",
            "--verify=crc32c",
            "--output-format=terse",
        )
    assert text


def _check_client(uri: str, image: Path) -> None:
    expected = image.read_bytes()
    with NbdClient.connect(NbdAddress.parse(uri)) as client:
        assert client.size_bytes == SIZE
        assert client.read(0, SIZE) == expected
        extents = list(client.extents(0, SIZE))
        assert sum(extent.length for extent in extents) == SIZE
        for extent in extents:
            if extent.is_zero:
                assert not any(expected[extent.offset : extent.end])
        assert any(extent.is_zero for extent in extents)
        client.write(5 * MIB - 1, b"written" * 1000)
        client.write_zeroes(0, MIB)
        client.flush()
        assert client.read(5 * MIB - 1, 7000) == b"written" * 1000
        with pytest.raises(OSError, match=r".+"):
            client.read(SIZE - 1, 2)
        assert client.read(0, MIB) == bytes(MIB)


def test_our_client_reads_and_writes_qemu_nbd(image: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    command = ["qemu-nbd", "-f", "raw", "-x", "d", "-t", "-e", "4", "-k", str(path), str(image)]
    with serving_process(command, path):
        _check_client(f"nbd+unix:///d?socket={path}", image)


def test_our_client_reads_and_writes_nbdkit(image: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    command = ["nbdkit", "-f", "-U", str(path), "file", str(image)]
    with serving_process(command, path):
        _check_client(f"nbd+unix:///?socket={path}", image)


def test_our_client_reads_and_writes_qemu_storage_daemon(image: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    command = [
        "qemu-storage-daemon",
        "--blockdev",
        f"driver=file,node-name=f,filename={image}",
        "--nbd-server",
        f"addr.type=unix,addr.path={path}",
        "--export",
        "type=nbd,id=e,node-name=f,name=d,writable=on",
    ]
    with serving_process(command, path):
        _check_client(f"nbd+unix:///d?socket={path}", image)


def test_an_nbdkit_that_fails_in_the_middle_is_a_clear_error(image: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    command = ["nbdkit", "-f", "-U", str(path), "--filter=error", "file", str(image)]
    command.append("error-pread-rate=100%")
    with (
        serving_process(command, path),
        NbdClient.connect(NbdAddress(socket_path=str(path))) as client,
        pytest.raises(OSError, match=r".+"),
    ):
        client.read(0, MIB)


def _certificates(directory: Path) -> Path:
    """An authority, a server and a client certificate, as libnbd names them."""
    made = directory / "tls"
    made.mkdir()

    def openssl(*words: str) -> None:
        _run("openssl", *words)

    ca, ca_key = str(made / "ca-cert.pem"), str(made / "ca-key.pem")
    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=test", "-keyout", ca_key, "-out", ca)
    for side in ("server", "client"):
        key, request = str(made / f"{side}-key.pem"), str(made / f"{side}.csr")
        openssl(*new, "-subj", "/CN=localhost", "-keyout", key, "-out", request)
        extra = made / "extra"
        extra.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        signed = ("-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2")
        cert = str(made / f"{side}-cert.pem")
        openssl("x509", "-req", "-in", request, *signed, "-extfile", str(extra), "-out", cert)
    return made


def test_tls_protects_both_ways_and_plain_clients_are_refused(image: Path, tmp_path: Path) -> None:
    made = _certificates(tmp_path)
    node = FileNode.open(str(image), Access.READ_WRITE)
    with event_loop() as loop:

        async def start() -> tuple[NbdServer, int]:
            server = NbdServer({"d": Export.of("d", node)}, tls=server_tls_context(str(made)))
            return server, await server.start_tcp("127.0.0.1", 0)

        server, port = asyncio.run_coroutine_threadsafe(start(), loop).result()
        uri = f"nbds://localhost:{port}/d?tls-certificates={made}"
        _check_client(uri, image)
        about = json.loads(_run("nbdinfo", "--json", uri))
        assert about["TLS"]
        with socket.create_connection(("127.0.0.1", port), 5) as eager:
            smuggled = option_request(Option.STRUCTURED_REPLY)
            eager.sendall(b"\0\0\0\3" + option_request(Option.STARTTLS) + smuggled)
            with eager.makefile("rb") as said:
                assert said.read() == b"NBDMAGICIHAVEOPT\0\3"  # and no word more
        with pytest.raises(NbdError, match="TLS"):
            NbdClient.connect(NbdAddress(export="d", host="localhost", port=port))
        for side in ("cert", "key"):
            (made / f"client-{side}.pem").unlink()
        with pytest.raises((NbdError, ssl.SSLError)):
            NbdClient.connect(NbdAddress.parse(uri))
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
    node.close()
