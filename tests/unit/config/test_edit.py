"""holdfast.config.edit."""

import stat
from pathlib import Path

import pytest

from holdfast.config import edit
from holdfast.config.settings import Settings
from holdfast.errors import BadRequest

BEFORE = """# written by hand
[stores.local]  # the fast disk
path   =   "/srv/backup"

[jobs.nightly]
kind = "gc"
enabled = true # for now
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(BEFORE)
    path.chmod(0o640)
    return path


def test_a_new_store_leaves_every_old_line_as_it_was(config: Path) -> None:
    edit.add_store(str(config), "usb", {"path": "/media/usb", "verify-new": True, "keep-last": 3})

    after = config.read_text()
    for line in BEFORE.splitlines():
        assert line in after.splitlines()
    store = Settings.read(str(config)).stores["usb"]
    assert (store.path, store.options.verify_new, store.keep.last) == ("/media/usb", True, 3)
    assert stat.S_IMODE(config.stat().st_mode) == 0o640


def test_the_first_store_makes_the_file_and_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "config.toml"

    edit.add_store(str(path), "local", {"path": "/srv"})

    assert path.read_text() == '[stores.local]\npath = "/srv"\n'


def test_a_taken_name_is_refused(config: Path) -> None:
    with pytest.raises(BadRequest, match="already has a store called 'local'"):
        edit.add_store(str(config), "local", {"path": "/other"})
    assert config.read_text() == BEFORE


def test_a_change_that_would_break_the_file_is_not_written(config: Path) -> None:
    with pytest.raises(BadRequest, match="not absolute"):
        edit.add_store(str(config), "usb", {"path": "relative"})
    assert config.read_text() == BEFORE


def test_one_value_changes_and_its_comment_stays(config: Path) -> None:
    edit.set_value(str(config), ("jobs", "nightly", "enabled"), value=False)

    assert config.read_text() == BEFORE.replace("true", "false")


def test_a_symbolic_link_to_the_file_stays_one(config: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(config)

    edit.add_store(str(link), "usb", {"path": "/media/usb"})

    assert link.is_symlink()
    assert "usb" in Settings.read(str(config)).stores
