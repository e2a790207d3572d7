"""holdfast.config.settings and holdfast.config.stores."""

from pathlib import Path

import pytest

from holdfast.config import toml_source
from holdfast.config.settings import Settings
from holdfast.config.stores import Keep
from holdfast.datastore.options import ChunkOrder, StoreOptions, SyncLevel
from holdfast.errors import BadRequest, NotFound


def _settings(text: str) -> Settings:
    return Settings.parse(toml_source.parse("c.toml", text.encode()))


TWO = """
[stores.local]
path = "/srv/backup/"
verify-new = true
chunk-order = "none"
sync-level = "file"
keep-daily = 7
keyfile = "~/key"

[stores.usb]
path = "/media/usb"
read-only = true
"""


def test_reads_what_a_store_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")

    local = _settings(TWO).stores["local"]

    assert local.path == "/srv/backup"
    assert local.options == StoreOptions(
        verify_new=True, chunk_order=ChunkOrder.NONE, sync_level=SyncLevel.FILE
    )
    assert not local.is_read_only
    assert local.keep == Keep(daily=7)
    assert local.keyfile == "/home/ann/key"


def test_no_file_means_no_stores(tmp_path: Path) -> None:
    assert Settings.read(str(tmp_path / "none.toml")).stores == {}


def test_the_only_store_need_not_be_named() -> None:
    settings = _settings('[stores.a]\npath = "/a"')

    assert settings.store(None).name == "a"


def test_which_of_two_stores_has_to_be_said() -> None:
    with pytest.raises(BadRequest, match="more than one") as caught:
        _settings(TWO).store(None)
    assert caught.value.hint == "add --store local|usb"


def test_the_users_own_store_is_used_when_none_is_configured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "holdfast" / "store" / ".chunks").mkdir(parents=True)

    assert _settings("").store(None).path == f"{tmp_path}/holdfast/store"


def test_without_any_store_the_error_says_how_to_begin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(BadRequest) as caught:
        _settings("").store(None)
    assert "holdfast init" in str(caught.value.hint)


def test_a_directory_is_a_store_without_configuration(tmp_path: Path) -> None:
    found = _settings(TWO).store(str(tmp_path))

    assert (found.path, found.name) == (str(tmp_path), tmp_path.name)


def test_a_directory_that_is_configured_has_its_settings(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    settings = _settings(f'[stores.a]\npath = "{tmp_path}/link"\nverify-new = true')

    assert settings.store(f"{tmp_path}/real").name == "a"


def test_an_unknown_name_is_not_found() -> None:
    with pytest.raises(NotFound, match="'lokal'") as caught:
        _settings(TWO).store("lokal")
    assert "local, usb" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[stores.a]", r"line 1: store 'a' has no path"),
        ('[stores.a]\npath = "srv"', r"line 2: path = 'srv' is not absolute"),
        ('[stores."a b"]\npath = "/srv"', r"line 1: 'a b' cannot name a store"),
        ('[stores.a]\npath = "/a"\nkeep-daily = 0', r"line 3: keep-daily should be"),
        (
            '[stores.a]\npath = "/a"\n[stores.b]\npath = "/a/"',
            r"line 4: /a is already the store 'a'",
        ),
        ('[store.a]\npath = "/a"', r"line 1: 'store' means nothing here"),
        ('stores = "/a"', r"line 1: stores should be a table"),
        ('[stores]\na = "/a"', r"line 2: a should be a table"),
    ],
)
def test_mistakes_are_reported_with_their_line(text: str, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        _settings(text)
