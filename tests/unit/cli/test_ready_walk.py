import os
from pathlib import Path

import pytest

from holdfast.cli.ready_walk import ready_walk


def test_a_process_waits_for_a_backup_of_a_directory_and_ends_with_the_command(
    tmp_path: Path,
) -> None:
    with ready_walk("backup", ["-q", f"root.pxar:{tmp_path}", "--id", "h"]) as walk:
        assert walk is not None
        os.kill(walk.pid, 0)

    with pytest.raises(ProcessLookupError):
        os.kill(walk.pid, 0)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("restore", []),
        ("backup", ["--help"]),
        ("backup", ["--detach"]),
        ("backup", ["--read-only"]),
    ],
)
def test_no_process_is_started_where_no_walk_begins(
    tmp_path: Path, name: str, more: list[str]
) -> None:
    with ready_walk(name, [str(tmp_path), *more]) as walk:
        assert walk is None


def test_nothing_but_a_directory_is_walked(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").touch()

    with ready_walk("backup", [f"disk.img:{tmp_path / 'disk.raw'}"]) as walk:
        assert walk is None


def test_the_read_only_variable_counts_like_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_READ_ONLY", "1")

    with ready_walk("backup", [str(tmp_path)]) as walk:
        assert walk is None
