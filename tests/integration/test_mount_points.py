"""What is mounted below a tree; needs the right to mount."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.tree_streams import restore, write_split

from holdfast.archive.walk import open_root
from holdfast.archive.walk_rules import WalkRules
from holdfast.errors import Refused


def mount(*words: str | Path) -> bool:
    program = shutil.which("mount")
    if program is None or os.geteuid() != 0:
        return False
    return (
        subprocess.run([program, *map(str, words)], capture_output=True, check=False).returncode
        == 0
    )


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "tree"
    (root / "mounted").mkdir(parents=True)
    (root / "kernel").mkdir()
    (root / "file").write_text("outside")
    if not mount("-t", "tmpfs", "tmpfs", root / "mounted"):
        pytest.skip("no right to mount")
    mount("--bind", "/proc/sys", root / "kernel")
    (root / "mounted").chmod(0o751)
    (root / "mounted" / "inside").write_text("inside")
    try:
        yield root
    finally:
        for name in ("mounted", "kernel"):
            subprocess.run(["umount", "-l", str(root / name)], check=False, capture_output=True)


def names_below(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


def test_a_mount_point_is_an_empty_directory_with_the_mounted_metadata(
    tree: Path, tmp_path: Path
) -> None:
    target = tmp_path / "back"
    target.mkdir()

    archive = write_split(str(tree))
    restore(archive, str(target))

    assert names_below(target) == ["file", "kernel", "mounted"]
    assert (target / "mounted").stat().st_mode & 0o777 == 0o751
    assert archive.warnings == []


def test_all_file_systems_takes_in_what_is_mounted_but_nothing_virtual(
    tree: Path, tmp_path: Path
) -> None:
    target = tmp_path / "back"
    target.mkdir()

    restore(write_split(str(tree), rules=WalkRules(all_file_systems=True)), str(target))

    assert names_below(target) == ["file", "kernel", "mounted", "mounted/inside"]


def test_a_virtual_root_is_refused(tree: Path) -> None:
    with pytest.raises(Refused, match="kernel"):
        open_root(os.fsencode(tree / "kernel"))
