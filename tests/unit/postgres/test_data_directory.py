"""Which files of a data directory a base backup takes."""

import os
from pathlib import Path

import pytest

from holdfast.errors import DamagedData
from holdfast.postgres.data_directory import Kind, Scan, has_pages, relation_name


def make(root: Path, *paths: str) -> None:
    for path in paths:
        place = root / path
        if path.endswith("/"):
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"x" * 8192)


def scanned(root: Path, **options: object) -> tuple[list[str], list[str]]:
    """Directories and files by stored path."""
    directories, files = [], []
    for found in Scan(str(root), **options):  # type: ignore[arg-type]  # passed on as they are
        if found.kind is Kind.BEGIN:
            directories.append(found.path.decode())
        elif found.kind is Kind.FILE:
            files.append((found.path.rpartition(b"/")[0] + b"/" + found.name).decode().lstrip("/"))
    return directories, files


def test_what_the_server_makes_anew_is_left_out_and_empty_directories_stay(tmp_path: Path) -> None:
    make(
        tmp_path,
        *("PG_VERSION", "postmaster.pid", "backup_label", "postgresql.auto.conf.tmp"),
        *("pg_wal/000000010000000000000001", "pg_wal/archive_status/x.ready", "pg_notify/0000"),
        *("global/pg_control", "global/pg_internal.init", "global/1262", "pg_twophase/"),
        *("base/pgsql_tmp/pgsql_tmp1.0", "pg_tblspc/", "log/server.log", "core.123"),
    )
    directories, files = scanned(tmp_path, skipped_directories=frozenset({b"log"}))
    assert files == ["PG_VERSION", "global/1262"]
    assert {"pg_wal", "pg_wal/archive_status", "pg_notify", "pg_twophase", "log"} <= {*directories}


def test_temporary_and_unlogged_relations_are_left_out_except_their_init_forks(
    tmp_path: Path,
) -> None:
    make(
        tmp_path,
        *("base/5/16384", "base/5/16384_vm", "base/5/16384.1", "base/5/t3_16400"),
        *("base/5/16390", "base/5/16390_fsm", "base/5/16390_init", "base/5/pg_filenode.map"),
    )
    _directories, files = scanned(tmp_path)
    assert [Path(name).name for name in files] == [
        "16384",
        "16384.1",
        "16384_vm",
        "16390_init",
        "pg_filenode.map",
    ]


def test_names_stay_in_order_when_some_files_are_stored_as_deltas(tmp_path: Path) -> None:
    make(tmp_path, *(f"base/5/{name}" for name in ("16384", "16384.1", "16384_vm", "2", "20")))
    _directories, files = scanned(tmp_path, is_delta=lambda path, _size: not path.endswith(b".1"))
    assert files == sorted(files)
    assert "base/5/16384.vcdiff" in files
    assert "base/5/16384.1" in files


def test_links_are_only_followed_where_the_server_makes_them(tmp_path: Path) -> None:
    make(tmp_path, "data/base/5/1", "data/pg_tblspc/", "elsewhere/wal/0001", "space/secret")
    (tmp_path / "data/pg_wal").symlink_to(tmp_path / "elsewhere/wal")
    (tmp_path / "data/pg_tblspc/16400").symlink_to(tmp_path / "space")
    (tmp_path / "data/stray").symlink_to("/etc")
    os.mkfifo(tmp_path / "data/fifo")
    warnings: list[str] = []
    directories, files = scanned(tmp_path / "data", warn=warnings.append)
    assert files == ["base/5/1"]
    assert "pg_wal" in directories
    assert "pg_tblspc/16400" not in directories
    assert len(warnings) == 2


def test_a_tablespace_gives_only_the_directory_of_its_server_version(tmp_path: Path) -> None:
    make(tmp_path, "PG_15_202209061/5/16384", "PG_14_1/5/1", "other")
    _directories, files = scanned(
        tmp_path, prefix=b"pg_tblspc/16400", only=frozenset({b"PG_15_202209061"})
    )
    assert files == ["pg_tblspc/16400/PG_15_202209061/5/16384"]


def test_files_with_pages_are_known_by_their_names() -> None:
    found = relation_name(b"base/5/16384_vm.3")
    assert found is not None
    assert (found.fork, found.segment, found.is_main) == (b"_vm", 3, False)
    assert relation_name(b"pg_tblspc/16400/PG_15_202209061/5/1_fsm") is not None
    for path in (
        b"base/5/pg_filenode.map",
        b"pg_xact/0000",
        b"base/5/x/1",
        b"16384",
        b"base/5/1.x",
    ):
        assert relation_name(path) is None
    assert not has_pages(found, 0)
    assert not has_pages(found, 8191)
    assert not has_pages(None, 8192)


def test_a_part_stands_for_its_file_and_a_part_of_a_visibility_map_for_nothing(
    tmp_path: Path,
) -> None:
    names = ("16384_fsm", "INCREMENTAL.16384", "INCREMENTAL.16384_vm", "INCREMENTAL.16390_init")
    make(tmp_path, "INCREMENTAL.note", *(f"base/5/{name}" for name in names))
    _directories, files = scanned(tmp_path, is_native=True)
    assert files == [
        "INCREMENTAL.note",
        "base/5/16384.vcdiff",
        "base/5/16384_fsm",
        "base/5/16390_init.vcdiff",
    ]
    make(tmp_path, "base/5/16384")
    with pytest.raises(DamagedData, match="both whole and in part"):
        scanned(tmp_path, is_native=True)
