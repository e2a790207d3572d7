"""New stores: exact modes, refusals, and creations that were cut short."""

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.places import quick_directory

from holdfast.datastore import layout
from holdfast.datastore.store import Access, Datastore
from holdfast.errors import Busy, HoldfastError, NotFound, Refused
from holdfast.host import locks
from holdfast.host.locks import LockMode


@pytest.fixture(scope="module")
def store() -> Iterator[Datastore]:
    """A store made under an umask that would spoil every mode."""
    before = os.umask(0o077)
    try:
        with quick_directory() as place:
            yield Datastore.create(f"{place}/deep/store", name="new")
    finally:
        os.umask(before)


def _mode(path: str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_new_store_has_every_chunk_directory_with_its_exact_mode(store: Datastore) -> None:
    chunks = f"{store.base}/.chunks"

    with os.scandir(chunks) as entries:
        found = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in entries}

    assert found == {f"{number:04x}": 0o750 for number in range(65536)}
    assert _mode(store.base) == 0o755
    assert _mode(chunks) == 0o750
    assert _mode(f"{store.base}/.lock") == 0o644
    assert sorted(os.listdir(store.base)) == [".chunks", ".lock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_new_store_belongs_to_proxmox_user_where_there_is_one(store: Datastore) -> None:
    try:
        entry = pwd.getpwnam("backup")
        wanted = (entry.pw_uid, entry.pw_gid)
    except KeyError:
        wanted = (os.geteuid(), os.getegid())

    for name in ("", ".chunks", ".chunks/0000", ".chunks/ffff", ".lock"):
        info = os.lstat(os.path.join(store.base, name))
        assert (info.st_uid, info.st_gid) == wanted
    assert store.owner_ids in (wanted, None)


def test_new_store_opens_and_is_empty(store: Datastore) -> None:
    again = Datastore.open(store.base, Access.READ_ONLY)

    assert [str(ns) for ns in again.namespaces()] == [""]
    assert again.groups() == []


def test_second_creation_in_the_same_place_is_refused(store: Datastore) -> None:
    with pytest.raises(Refused, match="already is a store"):
        Datastore.create(store.base)


def test_store_inside_a_store_is_refused(store: Datastore) -> None:
    with pytest.raises(Refused, match="inside the store"):
        Datastore.create(f"{store.base}/vm/100/x")


def test_place_with_foreign_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()

    with pytest.raises(Refused, match=r"letter\.txt"):
        Datastore.create(str(tmp_path))
    assert os.listdir(tmp_path) == ["letter.txt"]


def test_place_another_process_is_preparing_is_busy(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert locks.try_flock(fd, LockMode.EXCLUSIVE)
        with pytest.raises(Busy):
            Datastore.create(str(tmp_path))
    finally:
        os.close(fd)


def test_strange_things_in_a_half_made_tree_are_refused(tmp_path: Path) -> None:
    (tmp_path / ".chunks.partial").mkdir()
    (tmp_path / ".chunks.partial" / "0000").symlink_to("/")
    with pytest.raises(HoldfastError):
        Datastore.create(str(tmp_path))

    (tmp_path / ".chunks.partial" / "0000").unlink()
    (tmp_path / ".chunks.partial" / "more").mkdir()
    with pytest.raises(Refused, match="no part of a store"):
        Datastore.create(str(tmp_path))


def test_directory_reached_through_a_link_is_no_part_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "real" / "100").mkdir(parents=True)
    (tmp_path / "vm").symlink_to("real")
    (tmp_path / "file").touch()

    layout.check_real_directory(str(tmp_path), "real/100")
    for relative in ("vm/100", "vm", "file", "file/x", "missing"):
        with pytest.raises(NotFound):
            layout.check_real_directory(str(tmp_path), relative)
