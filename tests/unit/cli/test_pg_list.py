"""The table of base backups has a cell for every heading."""

from argparse import Namespace
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from tests.harness.pg_archive import MadeArchive
from tests.harness.stores import empty_store

from holdfast.cli.console import Console
from holdfast.cli.pg_list import record, show
from holdfast.datastore.store import Datastore
from holdfast.ids import Namespace as StoreNamespace


@pytest.fixture(scope="module")
def store() -> Iterator[Datastore]:
    with empty_store() as made:
        yield made


def test_bases_and_windows_are_shown(store: Datastore, tmp_path: Path) -> None:
    archive = MadeArchive(tmp_path, store, StoreNamespace())
    archive.push(1, 2)
    full = archive.base(1)
    archive.base(2, chain=(str(full),))
    status = archive.status()
    archive.stage.close()
    out = StringIO()
    args = Namespace(json=False, quiet=False, verbose=0, no_color=True)
    console = Console(args, out=out, err=StringIO())

    show(status, console)
    console.flush()

    head, first, second, window = out.getvalue().splitlines()
    assert head.split()[-3:] == ["DRILL", "BUILDS", "ON"]
    assert first.split() == [str(full), "full", "1", first.split()[3], "never"]
    assert second.split()[-2:] == ["never", str(full)]
    assert window.startswith("timeline 1: recoverable from ")
    assert [base["drill"] for base in record(status)["bases"]] == [None, None]
