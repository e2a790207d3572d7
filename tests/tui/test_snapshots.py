"""The explorer: what it shows, and every action on a real store."""

import threading
import time

import pytest
from tests.harness.tui import Bench, app_of, opened, press, screen_text, settled, until
from textual.pilot import Pilot

from holdfast.ids import BackupType, GroupId, SnapshotId
from holdfast.operations.snapshots import SnapshotSummary
from holdfast_tui.insights import Steps
from holdfast_tui.messages import CatalogueSeen, StoreSeen
from holdfast_tui.model.snapshots import Catalogue, SnapshotRow
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.render.look import ASCII, Look, Mark
from holdfast_tui.screens.snapshots.view import SnapshotsView

NEWEST = "host/web1/2026-01-03T06:00:00Z"
MIDDLE = "host/web1/2026-01-02T06:00:00Z"
OLDEST = "host/web1/2026-01-01T06:00:00Z"


def _view(pilot: Pilot[str]) -> SnapshotsView:
    view = app_of(pilot).views["snapshots"]
    assert isinstance(view, SnapshotsView)
    return view


def _listed(pilot: Pilot[str]) -> list[str]:
    return [str(row.snapshot) for row in _view(pilot).snapshots.shown_rows()]


async def _in_web1(pilot: Pilot[str]) -> None:
    """The cursor on the newest snapshot of host/web1."""
    await settled(pilot)
    view = _view(pilot)
    node = next(node for node in view.groups.rows if node.label == "host/web1")
    view.groups.go_to(node.key)
    await pilot.pause()
    await press(pilot, "l")
    assert _listed(pilot) == [NEWEST, MIDDLE, OLDEST]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
@pytest.mark.parametrize("look", [Look(), ASCII])
async def test_what_it_shows(looked_at: Bench, size: tuple[int, int], look: Look) -> None:
    async with opened(looked_at, view="snapshots", size=size, look=look) as pilot:
        await settled(pilot)
        groups = screen_text(pilot)
        await _in_web1(pilot)
        await until(pilot, lambda: "1 bad" in screen_text(pilot), what="the damage was traced")

        shown = screen_text(pilot)

        assert "host/web1" in groups
        assert "vm/100" in groups
        assert f"{look.mark(Mark.BAD)} 1 bad" in shown
        assert f"{look.mark(Mark.OK)} " in shown
        assert "host/web1: 3 snapshots" in shown
        assert "only" in shown
        assert look.unicode or shown.isascii()
        assert max(map(len, shown.splitlines())) <= size[0]


async def test_flags_sizes_and_marks_of_one_snapshot(bench: Bench) -> None:
    bench.program.run("protect", MIDDLE)
    bench.program.run("comment", MIDDLE, "before the \x1b]0;owned\x07 upgrade")
    async with opened(bench, view="snapshots", size=(150, 40)) as pilot:
        await _in_web1(pilot)
        await press(pilot, "j")

        line = next(line for line in screen_text(pilot).splitlines() if "2026-01-02" in line)

        assert "P.N." in line
        assert "before the" in line
        assert "\x1b" not in screen_text(pilot)


async def test_the_store_has_everything_in_one_list(looked_at: Bench) -> None:
    async with opened(looked_at, view="snapshots", size=(120, 40)) as pilot:
        await settled(pilot)
        await press(pilot, "e")

        assert _listed(pilot) == [NEWEST, MIDDLE, "vm/100/2026-01-02T02:00:00Z", OLDEST]


async def test_filters_sorts_and_problems(looked_at: Bench) -> None:
    async with opened(looked_at, view="snapshots", size=(120, 40)) as pilot:
        await settled(pilot)
        await press(pilot, "e", "slash", *"vm/", "enter")
        assert _listed(pilot) == ["vm/100/2026-01-02T02:00:00Z"]
        await press(pilot, "escape", "exclamation_mark")
        assert _listed(pilot) == [NEWEST]
        await press(pilot, "escape", "slash", *"verify:never", "enter")
        assert _listed(pilot) == []
        await press(pilot, "escape", "s", "s", "r")
        assert _listed(pilot)[0] == OLDEST


async def test_h_folds_and_leaves(looked_at: Bench) -> None:
    async with opened(looked_at, view="snapshots", size=(80, 24)) as pilot:
        await _in_web1(pilot)
        await press(pilot, "h")
        assert "Namespaces and groups" in screen_text(pilot)
        await press(pilot, "h", "h")
        assert "host/web1" not in "".join(screen_text(pilot).splitlines()[3:])
        await press(pilot, "l")
        assert "host/web1" in screen_text(pilot)


async def test_marks_are_protected_and_released(bench: Bench) -> None:
    async with opened(bench, view="snapshots", size=(120, 40)) as pilot:
        await _in_web1(pilot)
        await press(pilot, "space", "space", "L")
        await until(pilot, lambda: "protected from" in screen_text(pilot))
        flags = {row["snapshot"]: row["protected"] for row in bench.program.json("snapshots")}
        assert [flags[name] for name in (NEWEST, MIDDLE, OLDEST)] == [True, True, False]

        await until(pilot, lambda: "P..." in screen_text(pilot), what="the list was patched")
        await press(pilot, "L")
        await until(pilot, lambda: "open to" in screen_text(pilot))

        flags = {row["snapshot"]: row["protected"] for row in bench.program.json("snapshots")}
        assert not any(flags.values())


async def test_a_note_is_written(bench: Bench) -> None:
    async with opened(bench, view="snapshots", size=(120, 40)) as pilot:
        await _in_web1(pilot)
        await press(pilot, "E", *"-- x $HOME", "enter")
        await until(pilot, lambda: "note written" in screen_text(pilot))

        assert bench.program.json("show", NEWEST)["comment"] == "-- x $HOME"


async def test_forget_counts_asks_for_the_word_and_forgets(bench: Bench) -> None:
    expected = bench.program.json("forget", OLDEST, MIDDLE, "-n")["freed_bytes"]
    bench.program.run("protect", NEWEST)
    async with opened(bench, view="snapshots", size=(120, 40)) as pilot:
        await _in_web1(pilot)
        await press(pilot, "asterisk", "D")
        await until(pilot, lambda: app_of(pilot).screen.is_modal)
        asked = screen_text(pilot)
        assert f"{expected:,} bytes" in asked
        assert "1 protected snapshot stay" in asked
        await press(pilot, *"web2", "enter")
        assert app_of(pilot).screen.is_modal
        await press(pilot, *["backspace"] * 4, *"web1", "enter")
        await until(pilot, lambda: _listed(pilot) == [NEWEST], what="two are gone")

        left = [row["snapshot"] for row in bench.program.json("snapshots", "host/web1")]
        assert left == [NEWEST]


async def test_verify_runs_detached_for_marked_ones(bench: Bench) -> None:
    async with opened(bench, view="snapshots", size=(120, 40)) as pilot:
        await _in_web1(pilot)
        await press(pilot, "j", "space", "space", "V")
        await until(pilot, lambda: app_of(pilot).screen.is_modal)
        assert "Verify 2 snapshots of host/web1" in screen_text(pilot)
        await press(pilot, "enter")
        await until(
            pilot,
            lambda: any(
                task.kind == "verify" and task.word == "ok"
                for task in app_of(pilot).board.tasks[:1]
            ),
            what="the task ended well",
        )

        history = bench.program.json("show", MIDDLE)["verify_history"]
        assert len(history) >= 2


async def test_a_group_is_verified_from_the_groups(bench: Bench) -> None:
    async with opened(bench, view="snapshots", size=(120, 40)) as pilot:
        await _in_web1(pilot)
        await press(pilot, "h", "V")
        await until(pilot, lambda: app_of(pilot).screen.is_modal)

        assert "verify host/web1" in screen_text(pilot)
        await press(pilot, "escape")


async def test_prune_shows_reasons_then_removes(bench: Bench) -> None:
    async with opened(bench, view="snapshots", size=(120, 40)) as pilot:
        await _in_web1(pilot)
        await press(pilot, "P")
        await until(pilot, lambda: "keep in host/web1" in screen_text(pilot))
        await press(pilot, "ctrl+u", *"last 1", "enter")
        await until(pilot, lambda: app_of(pilot).screen.is_modal)
        plan = screen_text(pilot)
        assert "forgets 2 snapshots, keeps 1" in plan
        assert "keep    host/web1" in plan
        await press(pilot, "enter")
        await until(pilot, lambda: "Type web1" in screen_text(pilot))
        await press(pilot, *"web1", "enter")
        await until(pilot, lambda: _listed(pilot) == [NEWEST], what="two are pruned")


async def test_rules_that_are_none_are_refused(looked_at: Bench) -> None:
    async with opened(looked_at, view="snapshots", size=(120, 40)) as pilot:
        await _in_web1(pilot)
        await press(pilot, "P")
        await until(pilot, lambda: "keep in host/web1" in screen_text(pilot))
        await press(pilot, "ctrl+u", *"some", "enter")

        assert "is no retention rule" in screen_text(pilot)


async def test_two_marked_ones_are_compared(looked_at: Bench) -> None:
    async with opened(looked_at, view="snapshots", size=(120, 40)) as pilot:
        await _in_web1(pilot)
        await press(pilot, "j", "space", "space", "d")
        await until(pilot, lambda: app_of(pilot).screen.is_modal)

        shown = screen_text(pilot)

        assert "api.conf" in shown
        assert "n new" in shown
        assert "c changed" in shown


async def test_a_backup_of_a_path_is_started(bench: Bench) -> None:
    async with opened(bench, view="snapshots", size=(120, 40)) as pilot:
        await _in_web1(pilot)
        await press(pilot, "B")
        for letter in f"conf.pxar:{bench.files / 'nginx'}":
            await pilot.press(letter if letter.isalnum() else _key_name(letter))
        await press(pilot, "enter")
        await until(pilot, lambda: app_of(pilot).screen.is_modal)
        await press(pilot, "enter")
        await until(pilot, lambda: len(_listed(pilot)) == 4, what="the new snapshot is listed")


def _key_name(letter: str) -> str:
    names = {".": "full_stop", ":": "colon", "/": "slash", "-": "minus", "_": "underscore"}
    return names.get(letter, letter)


async def test_read_only_has_none_of_the_capitals(looked_at: Bench) -> None:
    async with opened(
        looked_at, view="snapshots", size=(120, 40), read_only="started with --read-only"
    ) as pilot:
        await _in_web1(pilot)
        for key in "BVLEPD":
            await press(pilot, key)
            assert "is off (started with --read-only)" in screen_text(pilot), key
            assert not app_of(pilot).screen.is_modal
        await press(pilot, "question_mark")
        assert "remove the marked snapshots" not in screen_text(pilot)


async def test_the_command_line_of_what_is_shown(looked_at: Bench) -> None:
    async with opened(looked_at, view="snapshots", size=(120, 40)) as pilot:
        await _in_web1(pilot)
        await press(pilot, "x")
        await until(pilot, lambda: app_of(pilot).screen.is_modal)

        assert "snapshots host/web1" in screen_text(pilot)


async def test_a_store_that_cannot_be_read_says_why(bench: Bench) -> None:
    config = bench.home / "config.toml"
    config.write_text(config.read_text() + f'[stores.gone]\npath = "{bench.home}/gone"\n')
    async with opened(bench, view="snapshots", size=(120, 40)) as pilot:
        await settled(pilot)
        await press(pilot, "G")

        shown = screen_text(pilot)

        assert "holdfast doctor" in shown
        assert "gone" in shown


async def test_an_empty_store_says_what_next(bench: Bench) -> None:
    import shutil

    for name in ("host", "vm"):
        shutil.rmtree(bench.store / name)
    async with opened(bench, view="snapshots", size=(120, 40)) as pilot:
        await settled(pilot)

        assert "No snapshots in main." in screen_text(pilot)
        assert "B backs up now" in screen_text(pilot)


async def test_a_long_read_is_given_up_with_esc(looked_at: Bench) -> None:
    async with opened(looked_at, view="snapshots", size=(120, 40)) as pilot:
        await settled(pilot)
        got: list[object] = []
        never = threading.Event()

        def work(steps: Steps) -> None:
            steps.total(items=1000)
            while True:
                steps.advance(items=1)
                never.wait(0.02)

        _view(pilot).read_long("counting", work, got.append)
        await until(pilot, lambda: "esc gives up" in screen_text(pilot))
        await pilot.press("escape")
        await settled(pilot)

        assert "given up" in screen_text(pilot)
        assert got == []


async def test_ten_thousand_snapshots_stay_smooth(looked_at: Bench) -> None:
    async with opened(looked_at, view="snapshots", size=(120, 40), live=False) as pilot:
        app = app_of(pilot)
        app.has_looked_for_stores = True
        app.on_store_seen(StoreSeen(StoreFacts(name="main", path="x", snapshots=10_000)))
        app.on_catalogue_seen(CatalogueSeen(_many()))
        await press(pilot, "e")
        assert _view(pilot).snapshots.shown_count == 10_000
        spent = []
        for _ in range(3):
            began = time.process_time()
            app.on_catalogue_seen(CatalogueSeen(_many()))
            spent.append(time.process_time() - began)
            began = time.process_time()
            _view(pilot).snapshots.set_filter(f"web{len(spent)}")
            spent.append(time.process_time() - began)

        assert max(spent) < 0.5  # 50 ms on a quiet machine

        await press(pilot, "escape", "G", "space", "g")
        assert len(_view(pilot).snapshots.marks) == 1


_ROWS = {
    group: tuple(
        SnapshotRow(SnapshotSummary(snapshot=SnapshotId(group, 1_700_000_000 + 86_400 * day)))
        for day in range(100, 0, -1)
    )
    for group in (GroupId(BackupType.HOST, f"web{number}") for number in range(100))
}


def _many() -> Catalogue:
    """A hundred groups of a hundred, as if they had been read again without a change."""
    return Catalogue("main", {group: tuple(rows) for group, rows in _ROWS.items()})


async def test_namespaces_are_branches_and_commands_stay_inside(bench: Bench) -> None:
    (bench.store / "ns" / "prod" / "ns" / "eu").mkdir(parents=True)
    conf = str(bench.home / "web.conf")
    for ns in ("prod", "prod/eu"):
        bench.program.run("backup", f"web.conf:{conf}", "--ns", ns, "--id", "db1")
    async with opened(bench, view="snapshots", size=(120, 40)) as pilot:
        await settled(pilot)
        view = _view(pilot)
        labels = [(node.depth, node.label) for node in view.groups.rows]
        assert labels == [
            (0, "main"),
            (1, "host/web1"),
            (1, "vm/100"),
            (1, "prod"),
            (2, "host/db1"),
            (2, "eu"),
            (3, "host/db1"),
        ]
        view.groups.go_to(view.groups.rows[-1].key)
        await pilot.pause()
        await press(pilot, "l", "L")
        await until(pilot, lambda: "protected from" in screen_text(pilot))

        (protected,) = bench.program.json("snapshots", "--ns", "prod/eu")
        (other,) = bench.program.json("snapshots", "--ns", "prod")
        assert (protected["protected"], other["protected"]) == (True, False)


async def test_a_manifest_that_cannot_be_read_is_one_row(bench: Bench) -> None:
    (bench.store / MIDDLE / "index.json.blob").write_bytes(b"rubbish")
    async with opened(bench, view="snapshots", size=(120, 40)) as pilot:
        await _in_web1(pilot)

        line = next(line for line in screen_text(pilot).splitlines() if "2026-01-02" in line)

        assert "? unreadable" in line
