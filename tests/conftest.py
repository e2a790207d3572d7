"""Settings that all tests share."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.harness.places import quick_directory

# A machine that is busy with other things says nothing about the code: no limit on time per example.
settings.register_profile("holdfast", deadline=None)
settings.load_profile("holdfast")

# Programs that tests start are compiled once, as an installed one is, and not at every start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell makes what it starts with & deaf to Ctrl-C, and programs that tests start would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """Like tmp_path, in memory where there is room: for whole stores, 65,536 directories each."""
    with quick_directory() as path:
        yield path


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes comes first, else one process is left alone with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
