"""Checked reads, writes in one step, and faults at the gate."""

import errno
import os
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
