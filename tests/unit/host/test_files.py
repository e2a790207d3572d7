"""Checked reads, writes in one step, and faults at the gate."""

import ctypes
import errno
import mmap
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import DamagedData, HoldfastError, NoSpace, Refused
from holdfast.host import files, gate


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoSpace),
        (errno.EDQUOT, NoSpace),
        (errno.EACCES, Refused),
        (errno.EROFS, Refused),
        (errno.EIO, HoldfastError),
    ],
)
def test_errors_of_the_system_become_sentences(number: int, kind: type[HoldfastError]) -> None:
    with pytest.raises(HoldfastError) as caught, files.explained("writing x"):
        raise OSError(number, os.strerror(number))

    assert type(caught.value) is kind
    assert "while writing x" in caught.value.message


def test_file_is_replaced_with_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    path = str(tmp_path / "a.blob")
    before = os.umask(0o077)
    try:
        assert files.replace_file(path, [b"one ", bytearray(b"two"), b""], mode=0o644) == 7
    finally:
        os.umask(before)

    assert Path(path).read_bytes() == b"one two"
    assert os.stat(path).st_mode & 0o7777 == 0o644
    assert os.listdir(tmp_path) == ["a.blob"]


def test_replacement_that_fails_at_any_step_leaves_the_old_file_and_nothing_else(
    tmp_path: Path,
) -> None:
    """Goal: old or new bytes, no litter. Method: fail the 1st, 2nd ... effect, with short writes."""
    path = str(tmp_path / "a.blob")
    for step in range(50):
        Path(path).write_bytes(b"old")
        left = iter(range(step))

        def fail(call: str, _path: object, left: Any = left) -> int | None:
            if next(left, None) is None:
                raise OSError(errno.EIO, "gone")
            return 2 if call == "write" else None

        try:
            with gate.installed(fail):
                files.replace_file(path, [b"new one"], sync=True)
        except OSError:
            assert Path(path).read_bytes() in (b"old", b"new one")
            assert os.listdir(tmp_path) == ["a.blob"]
            continue
        assert Path(path).read_bytes() == b"new one"
        assert step > 6
        return
    pytest.fail("never came to an end")


@pytest.mark.parametrize(
    ("path", "suffix", "ending"),
    [
        ("/x/index.json.blob", None, "/x/index.json.tmp_"),
        ("/x/a.img.fidx", "tmp_fidx", "/x/a.img.tmp_fidx"),
        ("/x/owner", None, "/x/owner.tmp_"),
        ("/x/.lock", None, "/x/.tmp_"),
        ("/x.y/" + "ab" * 32, None, "/x.y/" + "ab" * 32 + ".tmp_"),
    ],
)
def test_temporary_names_lie_beside_and_lose_the_last_extension(
    path: str, suffix: str | None, ending: str
) -> None:
    name = files.temporary_name(path, suffix)

    assert name.startswith(ending)
    assert len(name) - len(ending) == (0 if suffix else 6)


def test_reading_refuses_links_directories_pipes_and_what_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")

    assert files.read_file(str(tmp_path / "file"), size_max=5) == b"12345"
    for name in ("link", "pipe", "."):
        with pytest.raises((DamagedData, OSError)):
            files.read_file(str(tmp_path / name), size_max=100)
    with pytest.raises(DamagedData, match="more than the 4"):
        files.read_file(str(tmp_path / "file"), size_max=4)


def test_reading_leaves_the_access_time_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1")
    os.utime(path, (5, 10**9))

    files.read_file(str(path), size_max=5)

    assert path.stat().st_atime == 5


CONTENT = bytes(range(256)) * (3 << 10)


def bytes_in_memory(path: Path) -> int:
    with (
        path.open("r+b") as opened,
        mmap.mmap(opened.fileno(), 0, flags=mmap.MAP_PRIVATE) as mapped,
    ):
        pages = ctypes.create_string_buffer(len(mapped) // mmap.PAGESIZE)
        first = ctypes.c_char.from_buffer(mapped)
        address = ctypes.c_void_p(ctypes.addressof(first))
        assert ctypes.CDLL(None).mincore(address, ctypes.c_size_t(len(mapped)), pages) == 0
        del first
    return sum(page & 1 for page in pages.raw) * mmap.PAGESIZE


def wait_until_in_memory(path: Path, size: int) -> None:
    until = time.monotonic() + 20
    while bytes_in_memory(path) != size:
        assert time.monotonic() < until, f"{bytes_in_memory(path)} bytes are in memory"
        threading.Event().wait(0.01)


def test_disk_begins_with_a_file_that_is_expected(tmp_path: Path) -> None:
    path = tmp_path / "chunk"
    path.write_bytes(CONTENT)
    with path.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if bytes_in_memory(path):
        pytest.skip("this file system keeps its files in memory")

    files.expect_file(str(path))

    wait_until_in_memory(path, len(CONTENT))


def test_what_is_flushed_soon_leaves_memory(tmp_path: Path) -> None:
    path = tmp_path / "chunk"
    with path.open("wb") as opened:
        try:
            os.pwritev(opened.fileno(), [b"x"], 0, 0x80)
        except OSError:
            pytest.skip("this kernel or file system has no writes that leave memory")

    files.replace_file(str(path), [CONTENT[:12], CONTENT[12:]], flush_soon=True)

    files.sync_filesystem(str(tmp_path))
    wait_until_in_memory(path, 0)
    assert path.read_bytes() == CONTENT


def test_file_systems_that_keep_all_in_memory_take_what_is_flushed_soon() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = f"{directory}/chunk"

        assert files.replace_file(path, [b"head", b"body"], flush_soon=True) == 8

        assert Path(path).read_bytes() == b"headbody"


def test_expecting_what_cannot_be_read_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("missing", "link", "."):
        files.expect_file(str(tmp_path / name))


def test_touching_moves_the_access_time_only_and_follows_no_link(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1")
    (tmp_path / "link").symlink_to("file")
    os.utime(path, ns=(5, 123_456_789))

    files.touch_access_time(str(tmp_path / "link"))
    assert path.stat().st_atime_ns == 5
    files.touch_access_time(str(path))
    assert path.stat().st_mtime_ns == 123_456_789
    assert path.stat().st_atime_ns > 10**18
    with pytest.raises(FileNotFoundError):
        files.touch_access_time(str(tmp_path / "none"))


def test_many_directories_get_their_mode_and_owner(tmp_path: Path) -> None:
    owner = (34, 34) if os.geteuid() == 0 else None
    if owner is not None:
        os.chown(tmp_path, *owner)
    before = os.umask(0o077)
    try:
        files.make_directories(str(tmp_path), ["a", "b"], mode=0o750, owner=owner)
    finally:
        os.umask(before)

    for name in "ab":
        info = os.stat(tmp_path / name)
        assert info.st_mode & 0o7777 == 0o750
        assert owner is None or (info.st_uid, info.st_gid) == owner
    (tmp_path / "mine").mkdir()
    assert os.stat(tmp_path / "mine").st_uid == os.geteuid(), "this thread is itself again"
