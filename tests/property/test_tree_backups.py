"""Goal: any history of a tree, backed up after each change, comes back exactly as it was.

Method: random edits of a real directory; a backup in metadata mode after every few of them, each
built on the one before with small chunks, so that reuse, padding and re-reading all happen; every
snapshot is restored and compared with a copy of the facts taken when it was made.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.harness.places import quick_directory
from tests.harness.sessions import small_store
from tests.harness.tree_compare import snapshot_of

from holdfast.archive.change_detection import ChangeDetection
from holdfast.datastore.session import SessionSettings
from holdfast.datastore.verify import verify
from holdfast.ids import GroupId
from holdfast.operations.backup import BackupRequest, back_up
from holdfast.operations.backup_spec import parse_specs
from holdfast.operations.progress import NullProgress
from holdfast.operations.restore import RestoreRequest, restore
from holdfast.operations.tree_walks import Walker
from holdfast.upid import Upid

GROUP = GroupId.parse("host/random")
SETTINGS = SessionSettings(chunk_mean=64 * 1024, workers=1)
DIRECTORIES = ("", "d", "d/e", "f")
NAMES = ("a", "b", "c", "x", "é", "new\nline")

where = st.tuples(st.sampled_from(DIRECTORIES), st.sampled_from(NAMES))
sizes = st.sampled_from([0, 1, 500, 20_000, 70_000, 300_000])
edit = st.one_of(
    st.tuples(st.just("write"), where, sizes),
    st.tuples(st.just("remove"), where),
    st.tuples(st.just("chmod"), where, st.sampled_from([0o600, 0o644, 0o4755])),
    st.tuples(st.just("touch"), where, st.integers(-(10**10), 2 * 10**18)),
    st.tuples(st.just("link"), where, where),
    st.tuples(st.just("symlink"), where),
    st.tuples(st.just("xattr"), where, st.binary(max_size=20)),
    st.tuples(st.just("move"), where, where),
    st.tuples(st.just("append"), where, sizes),
)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def apply(root: Path, change: tuple[Any, ...], fill: bytes) -> None:
    """One edit; edits of what is not there do nothing."""
    kind, (directory, name), *rest = change
    path = root / directory / name
    edits: dict[str, Callable[[], object]] = {
        "write": lambda: path.write_bytes((fill * (rest[0] // 8 + 1))[: rest[0]]),
        "remove": path.unlink,
        "chmod": lambda: path.chmod(rest[0]),
        "touch": lambda: os.utime(path, ns=(0, rest[0])),
        "link": lambda: os.link(path, root / rest[0][0] / rest[0][1]),
        "symlink": lambda: path.symlink_to("target"),
        "xattr": lambda: os.setxattr(path, "user.x", rest[0]),
        "move": lambda: path.rename(root / rest[0][0] / rest[0][1]),
        "append": lambda: append(path, fill * (rest[0] // 16)),
    }
    try:
        if kind in ("chmod", "append", "xattr", "touch") and path.is_symlink():
            return
        if kind == "append" and not stat.S_ISREG(path.stat().st_mode):
            return
        edits[kind]()
    except (FileNotFoundError, FileExistsError):
        return


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(
    rounds=st.lists(st.lists(edit, min_size=1, max_size=6), min_size=2, max_size=5),
    modes=st.lists(
        st.sampled_from([ChangeDetection.METADATA] * 5 + list(ChangeDetection)),
        min_size=5,
        max_size=5,
    ),
    seed=st.integers(0, 2**32),
)
def test_every_snapshot_of_a_changing_tree_comes_back(
    rounds: list[list[tuple[Any, ...]]], modes: list[ChangeDetection], seed: int
) -> None:
    with quick_directory() as base:
        root = base / "tree"
        for directory in DIRECTORIES:
            (root / directory).mkdir(parents=True, exist_ok=True)
        store = small_store(base / "store")
        taken = []
        for number, edits in enumerate(rounds):
            for count, change in enumerate(edits):
                fill = (seed + 1000 * number + count).to_bytes(8, "big")
                apply(root, change, fill)
            request = BackupRequest(
                specs=parse_specs((f"tree.pxar:{root}",)),
                group=GROUP,
                time_s=1000 + number,
                settings=SETTINGS,
                detection=modes[number],
                walker=Walker.HERE,
            )
            outcome = back_up(store, request, NullProgress())
            assert outcome.warnings == ()
            taken.append((outcome.snapshot, snapshot_of(root)))
        upid = str(Upid.for_this_process("verify", "test"))
        checked = verify(store, [snapshot for snapshot, _facts in taken], upid=upid)
        assert not checked.has_failed
        for number, (snapshot, facts) in enumerate(taken):
            target = base / f"back-{number}"
            request_back = RestoreRequest(snapshot=snapshot, target=str(target))
            restored = restore(store, request_back, NullProgress())
            assert restored.tree.warnings == []
            assert snapshot_of(target) == facts
