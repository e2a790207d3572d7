"""One file out of a disk image in a store: listed, printed, restored; only its chunks are read."""

import hashlib
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness.program import Program

from holdfast.datastore.image_writer import CHUNK_BYTES
from holdfast.units import MIB

SECTOR = 512
BIG = 12 * MIB


def _file_system(directory: Path, name: str, kind: str, size: int) -> bytes:
    """A file system with a small file, a big one and a link, made without being root."""
    tree = directory / name
    (tree / "etc" / "deep").mkdir(parents=True)
    (tree / "etc" / "motd").write_text(f"welcome to {name}\n")
    (tree / "etc" / "deep" / "\x1b[2J").write_text("hostile name")
    (tree / "etc" / "link").symlink_to("motd")
    (tree / "big").write_bytes(random.Random(5).randbytes(BIG))
    image = directory / f"{name}.img"
    with image.open("wb") as out:
        out.truncate(size)
    command = ["mkfs.ext4", "-q", "-b", "4096", "-t", kind, "-d", str(tree), str(image)]
    subprocess.run(command, check=True, capture_output=True)
    return image.read_bytes()


def _disk(partitions: list[bytes]) -> bytes:
    """A disk with an MBR table; partitions begin at multiples of 1 MiB."""
    table, body, start = b"", b"", MIB
    for content in partitions:
        fields = (0x00, b"\0" * 3, 0x83, b"\0" * 3, start // SECTOR, len(content) // SECTOR)
        table += struct.pack("<B3sB3sII", *fields)
        body += content
        start += len(content)
    head = bytes(446) + table.ljust(64, b"\0") + b"\x55\xaa"
    return head.ljust(MIB, b"\0") + body


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A store with a snapshot of two disks."""
    directory = tmp_path_factory.mktemp("files")
    program = Program(directory / "home")
    first = _file_system(directory, "first", "ext4", 40 * MIB)
    second = _file_system(directory, "second", "ext2", 24 * MIB)
    (directory / "disk").write_bytes(_disk([first, second]))
    (directory / "plain").write_bytes(first)
    (directory / "noise").write_bytes(random.Random(1).randbytes(2 * MIB))
    program.run("init", directory / "store")
    archives = [f"{name}.img:{directory / name}" for name in ("disk", "plain", "noise")]
    program.run("backup", *archives, "--type", "vm", "--id", "v")
    return program


def test_partitions_and_their_files_are_listed(used: Program) -> None:
    top = used.run("ls", "vm/v", "disk.img", "--json").document
    assert [(one["path"], one["kind"]) for one in top] == [("p1", "dir"), ("p2", "dir")]
    found = used.run("ls", "vm/v", "disk.img", "p2/etc", "--json").document
    kinds = {one["path"]: one["kind"] for one in found}
    assert kinds == {"p2/etc/deep": "dir", "p2/etc/link": "symlink", "p2/etc/motd": "file"}
    link = next(one for one in found if one["kind"] == "symlink")
    assert link["target"] == "motd"
    everything = used.run("ls", "-R", "vm/v", "plain.img").text
    assert "etc/motd" in everything
    assert "\x1b" not in everything
    one = used.run("ls", "vm/v", "plain.img", "big", "--json").document
    assert [(entry["path"], entry["size"]) for entry in one] == [("big", BIG)]


def test_one_file_is_printed_and_restored(used: Program, tmp_path: Path) -> None:
    assert used.run("cat", "vm/v", "disk.img", "p1/etc/motd").text == "welcome to first\n"
    assert used.run("cat", "vm/v", "disk.img", "/p2/etc/motd").text == "welcome to second\n"
    big = random.Random(5).randbytes(BIG)
    assert used.run("cat", "vm/v", "plain.img", "big").out == big
    assert b"symbolic link to motd" in _refused(used, 2, "cat", "vm/v", "plain.img", "etc/link")
    assert b"no regular file" in _refused(used, 2, "cat", "vm/v", "plain.img", "etc")
    assert b"has no" in _refused(used, 10, "cat", "vm/v", "plain.img", "etc/nothing")
    assert b"it has p1, p2" in _refused(used, 10, "cat", "vm/v", "disk.img", "p3/etc/motd")
    assert b"no file system" in _refused(used, 2, "ls", "vm/v", "noise.img", "/")
    assert not list(tmp_path.iterdir())


def _refused(used: Program, code: int, *words: str) -> bytes:
    return used.run(*words, code=code).err.encode()


def test_a_disk_of_a_machine_gives_one_file(used: Program, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(_file_system(tmp_path, "vd", "ext4", 24 * MIB))
    used.run("backup", f"drive-vda.img:{image}", "--type", "vm", "--id", "machine")
    target = tmp_path / "motd"
    restore = ("vm", "restore", "vm/machine", "vda", target, "--file", "etc/motd")
    used.run(*restore)
    assert target.read_text() == "welcome to vd\n"
    assert used.run(*restore, code=13).err
    missing = ("vm", "restore", "vm/machine", "vda", tmp_path / "none", "--file", "no")
    assert used.run(*missing, code=10).err
    assert not (tmp_path / "none").exists()


def test_only_chunks_that_hold_the_file_are_read(tmp_path: Path) -> None:
    """A chunk of a disk is gone from the store; only what needs it says so."""
    small, rest = tmp_path / "small", tmp_path / "rest"
    small.write_bytes(_file_system(tmp_path, "one", "ext4", 40 * MIB))
    used = Program(tmp_path / "home")
    used.run("init", rest)
    used.run("backup", f"d.img:{small}", "--type", "vm", "--id", "d")
    image, big = small.read_bytes(), random.Random(5).randbytes(BIG)
    chunks = [image[at : at + CHUNK_BYTES] for at in range(0, len(image), CHUNK_BYTES)]
    inside = next(chunk for chunk in chunks if chunk in big)
    digest = hashlib.sha256(inside).hexdigest()
    (rest / ".chunks" / digest[:4] / digest).unlink()
    assert used.run("cat", "vm/d", "d.img", "etc/motd").text == "welcome to one\n"
    assert used.run("cat", "vm/d", "d.img", "big", code=None).code == 20


def test_without_its_package_the_reader_says_what_to_do(used: Program) -> None:
    script = "import sys; sys.modules['pytsk3'] = None\nfrom holdfast.cli.main import main\n"
    command = [sys.executable, "-c", script + "sys.exit(main(sys.argv[1:]))"]
    done = subprocess.run(
        [*command, "ls", "vm/v", "plain.img"],
        env={**os.environ, **used.environment},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 13
    assert b"holdfast[images]" in done.stderr
