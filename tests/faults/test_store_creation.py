"""A store whose creation dies: there is none until it is whole, and the next try completes it."""

import os
import stat

import pytest
from tests.harness.places import quick_directory

from holdfast.datastore.store import Access, Datastore
from holdfast.errors import NotFound
from holdfast.host import gate


class _Killed(BaseException):
    """The end of the process, as far as the disk can tell."""


@pytest.mark.parametrize("steps", [0, 1, 3, 70, 65539])
def test_creation_cut_short_shows_no_store_and_is_completed_by_the_next(steps: int) -> None:
    """Goal: `.chunks` means a whole store. Method: die after some effects, look, create again."""
    with quick_directory() as place:
        base = f"{place}/store"
        left = iter(range(steps))

        def die(_call: str, _path: object) -> None:
            if next(left, None) is None:
                raise _Killed

        with gate.installed(die), pytest.raises(_Killed):
            Datastore.create(base)
        with pytest.raises(NotFound):
            Datastore.open(base, Access.READ_ONLY)

        store = Datastore.create(base)
        assert len(os.listdir(f"{store.base}/.chunks")) == 65536
        assert stat.S_IMODE(os.lstat(f"{store.base}/.chunks/0000").st_mode) == 0o750
        assert sorted(os.listdir(base)) == [".chunks", ".lock"]
