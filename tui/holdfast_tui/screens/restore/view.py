"""Restore: from a group down to files on the left, this host on the right, a plan below.

The left side is a ladder: groups, snapshots, archives, directories. h goes out, l and enter go in.
Reading is in holdfast_tui.archive_reader, the dry run in planning.py; here is what keys do.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal

from holdfast.errors import KeyProblem
from holdfast.ids import Namespace, SnapshotId
from holdfast.shown import printable
from holdfast_tui import keymap
from holdfast_tui.archive_reader import (
    ArchiveReader,
    Differs,
    archives_of,
    check_key,
    needs_passphrase,
)
from holdfast_tui.model.files import FileRow, FileTable
from holdfast_tui.model.marks import PathMarks
from holdfast_tui.model.request import Target
from holdfast_tui.model.restore_plan import POLICIES
from holdfast_tui.model.search import SHOWN_MAX
from holdfast_tui.model.snapshots import Catalogue, SnapshotRow
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.model.tasks import TaskBoard
from holdfast_tui.render import fmt
from holdfast_tui.render.clean import clean
from holdfast_tui.screens.restore import columns
from holdfast_tui.screens.restore.columns import ArchiveRow, GroupRow, text_of
from holdfast_tui.screens.restore.finding import Finding
from holdfast_tui.screens.restore.looking import Looking
from holdfast_tui.screens.restore.other_side import OtherSide
from holdfast_tui.screens.restore.place import Level, Place
from holdfast_tui.screens.restore.planning import Planning
from holdfast_tui.widgets.filelist import FileList
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.preview import Preview
from holdfast_tui.widgets.rowlist import RowList

_GROW_S = 0.1
_MORE = 1.3  # times as many paths: worth looking through them again
_NARROW = 100
_BOXED = 30  # rows from which on panes have boxes


class RestoreView(Planning, Finding, OtherSide, Looking):
    """Find files in a snapshot and bring them back."""

    VIEW: ClassVar[str] = "restore"
    TITLE: ClassVar[str] = "Restore"
    HELP: ClassVar[str] = (
        "Left: groups, snapshots, archives, files; l goes in, h goes out, space marks, f finds.\n"
        "Right: where it goes; tab changes sides, w types a path, [ ] change the snapshot.\n"
        "R shows what would happen before anything does; an interrupted restore goes on with R."
    )
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("restore")
    DEFAULT_CSS = """
    RestoreView > Horizontal { height: 1fr; }
    RestoreView #left { width: 3fr; }
    RestoreView #right { width: 2fr; }
    RestoreView #plan { height: 3; }
    RestoreView.-boxed #plan { height: 4; }
    RestoreView #preview { height: 42%; display: none; }
    RestoreView.-preview #preview { display: block; }
    """

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield FileList(
                columns.group_columns(self.look, self.hold.clock, with_store=False), side="left"
            )
            yield FileList(columns.host_columns(self.hold.clock), side="right")
        yield Preview()
        yield LinePane(id="plan", classes="pane")

    def on_mount(self) -> None:
        self.left.come_to_front = lambda: self.show_sides("left")
        self.right.come_to_front = lambda: self.show_sides("right")
        self._grows = self.set_interval(_GROW_S, self._grow, pause=True)
        self.show_level()
        self.show_plan()

    # Frame ----------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        self.set_class(self.hold.size.height >= _BOXED and self.look.unicode, "-boxed")
        self.show_sides(self.side)
        self.show_plan()

    def show_sides(self, side: str) -> None:
        """Show both sides of an archive; in a narrow terminal only this one."""
        if self.place.level is not Level.FILES:
            side = "left"
        self.side = side
        is_narrow = self.size.width < _NARROW
        _put(self.left, shown=side == "left" or not is_narrow)
        _put(
            self.right, shown=self.place.level is Level.FILES and (side == "right" or not is_narrow)
        )

    def panes(self) -> list[Any]:
        """Both sides, also the one that has no room now: the one that gets the focus is shown."""
        return [self.left, self.right] if self.place.level is Level.FILES else [self.left]

    def crumbs(self) -> str:
        return self.place.crumbs(self.hold.look.arrow, with_store=len(self.hold.store_facts) > 1)

    def copy_text(self) -> str:
        row = self.current
        if isinstance(row, FileRow):
            return printable(row.path)  # a clipboard takes only text
        return str(row.snapshot) if isinstance(row, SnapshotRow) else ""

    def twin(self) -> Sequence[str] | None:
        place = self.place
        if place.snapshot is None:
            return ("snapshots",)
        selection = self.selection()
        if selection is not None and selection.decisions and not selection.needs_list:
            return (*selection.words(self.rule()), "--dry-run")
        words = ["ls", str(place.snapshot)]
        words += [place.archive] if place.archive else []
        words += [os.fsdecode(place.path)] if place.path else []
        return words

    def reload(self) -> None:
        super().reload()
        self.look_at_target()
        if self.place.level is Level.FILES:
            self.open_folder(self.place.path, cursor=self.left.current_key)

    # Facts ----------------------------------------------------------------------------------------

    def catalogue_seen(self, catalogue: Catalogue) -> None:
        del catalogue
        if self.place.level in (Level.GROUPS, Level.SNAPSHOTS):
            self.show_level(fresh=False)

    def stores_seen(self, stores: Sequence[StoreFacts]) -> None:
        del stores
        self.remember_of_last_time()
        if self.place.level is Level.GROUPS:
            self.show_level(fresh=False)

    def tasks_seen(self, board: TaskBoard) -> None:
        self.follow(board)

    def shown(self) -> None:
        self.show_level(fresh=False)
        self.remember_of_last_time()

    def open_target(self, target: Target) -> None:
        if not target.snapshot:
            if target.store and target.group:
                self._go_to_group(target)
            return
        snapshot = SnapshotId.parse(target.snapshot, Namespace.parse(target.ns))
        path = os.fsencode(target.path)
        self.open_snapshot(target.store, snapshot, archive=target.archive, path=path)

    def _go_to_group(self, target: Target) -> None:
        for group in self.hold.catalogues.get(target.store, Catalogue(target.store, {})).groups:
            if str(group) == target.group and str(group.ns) == str(Namespace.parse(target.ns)):
                self.place = Place(store=target.store, group=group)
                self.show_level()

    # The ladder -----------------------------------------------------------------------------------

    def show_level(self, *, fresh: bool = True) -> None:
        """Show what the place says; with `fresh` as another kind of rows."""
        level = self.place.level
        self.store_name = self.place.store
        if level is Level.GROUPS:
            self._show_groups(fresh=fresh)
        elif level is Level.SNAPSHOTS:
            self._show_snapshots(fresh=fresh)
        elif level is Level.ARCHIVES and fresh:
            self._show_archives()
        if fresh:
            self.show_sides("left")
            if level is not Level.FILES:
                self.remove_class("-preview")
            self.show_plan()
            self.hold._update_bars()  # noqa: SLF001  # the crumbs changed

    def _show_groups(self, *, fresh: bool) -> None:
        stores = self.hold.catalogues
        with_store = len(self.hold.store_facts) > 1
        if fresh:
            self.left.use([], marks_allowed=False)
        self.left.set_columns(
            columns.group_columns(self.look, self.hold.clock, with_store=with_store)
        )
        rows = [
            GroupRow(store, group, found)
            for store, catalogue in stores.items()
            for group, rows in catalogue.groups.items()
            if (found := tuple(row for row in rows if not row.summary.is_unfinished))
        ]
        reading = any(not catalogue.is_complete for catalogue in stores.values())
        waiting = not self.hold.has_looked_for_stores or len(stores) < len(
            [facts for facts in self.hold.store_facts.values() if facts.is_open]
        )
        if waiting or reading:
            self.left.set_empty("Reading the stores ...")
        elif self.hold.store_facts:
            self.left.set_empty(
                "There is no snapshot to restore from yet.",
                "B on the dashboard backs up now; 8 shows the stores.",
            )
        else:
            self.left.set_empty("No store is configured.", "8 shows the stores: A makes one.")
        self.left.set_rows(rows)
        self.left.title("What to restore from", fmt.plural(len(rows), "group"))
        self._put_cursor()

    def _show_snapshots(self, *, fresh: bool) -> None:
        if fresh:
            self.left.use(columns.snapshot_columns(self.look, self.hold.clock), marks_allowed=False)
        rows = self.snapshots()
        self.left.set_empty("This group has no finished snapshot any more.", "h goes out.")
        self.left.set_rows(rows)
        self.left.title(str(self.place.group), fmt.plural(len(rows), "snapshot"))
        self._put_cursor()

    def _show_archives(self) -> None:
        self.left.use(columns.archive_columns(), marks_allowed=False)
        self.left.set_rows(self.archives)
        self.left.title(f"Snapshot {self.place.moment}", fmt.plural(len(self.archives), "archive"))
        self._put_cursor()

    def _put_cursor(self) -> None:
        if self._cursor_to is not None and self.left.go_to(self._cursor_to):
            self._cursor_to = None

    def on_row_list_opened(self, message: RowList.Opened) -> None:
        message.stop()
        if message.rows is self.right:
            self.go_into_host(message.row)
        else:
            self.go_into(message.row)

    def action_into(self) -> None:
        focused = self.hold.focused
        if focused is self.right:
            if self.right.current is not None:
                self.go_into_host(self.right.current)
        elif self.current is not None:
            self.go_into(self.current)

    def go_into(self, row: Any) -> None:
        """One step down the ladder."""
        if isinstance(row, GroupRow):
            if row.group != self.place.group:
                self.marks = {}
            self.place = Place(store=row.store, group=row.group)
            self.show_level()
        elif isinstance(row, SnapshotRow):
            self.open_snapshot(self.place.store, row.snapshot)
        elif isinstance(row, ArchiveRow):
            self.open_archive(row.archive.name)
        elif isinstance(row, FileRow):
            self._into_file(row)

    def _into_file(self, row: FileRow) -> None:
        if self.found is not None:
            folder = row.path if row.is_directory else row.path.rpartition(b"/")[0]
            self.open_folder(folder, cursor=None if row.is_directory else row.path)
        elif row.is_directory:
            self.open_folder(row.path)
        elif not self.has_class("-preview"):
            self.run_action_if_allowed("preview")

    def action_out(self) -> None:
        """One step up the ladder; on the right: to the directory above."""
        place = self.place
        if self.hold.focused is self.right:
            self.set_target(os.path.dirname(self.target.rstrip("/")) or "/")
        elif self.found is not None:
            self.close_found()
        elif place.level is Level.FILES and place.path:
            self.open_folder(place.path.rpartition(b"/")[0], cursor=place.path)
        elif place.level is Level.FILES:
            self.close_archive()
            self._cursor_to = place.archive
            self.place = replace(place, archive="", path=b"")
            if len(self.archives) == 1:
                self._out_of_snapshot()
            else:
                self.show_level()
        elif place.level is Level.ARCHIVES:
            self._out_of_snapshot()
        elif place.level is Level.SNAPSHOTS and place.group is not None:
            self._cursor_to = (place.store, place.group)
            self.place = Place()
            self.show_level()

    def _out_of_snapshot(self) -> None:
        place = self.place
        self._cursor_to = None if place.snapshot is None else place.snapshot.path
        self.place = Place(store=place.store, group=place.group)
        self.show_level()

    def leave_state(self) -> bool:
        if self.stop_planning():
            return True
        if super().leave_state():
            return True
        if self.found is not None:
            self.close_found()
            return True
        if self.has_class("-preview"):
            self.remove_class("-preview")
            return True
        if self.hold.focused is self.right:
            self.left.focus()
            return True
        return False

    # Snapshots and archives -----------------------------------------------------------------------

    def open_snapshot(
        self, store: str, snapshot: SnapshotId, *, archive: str = "", path: bytes = b""
    ) -> None:
        """Its archives, or at once the only one, or the one that is named."""
        if (store, snapshot.group) != (self.place.store, self.place.group):
            self.marks = {}
        self.close_archive()
        self.place = Place(store=store, group=snapshot.group, snapshot=snapshot)
        wanted = self.place
        self.archives = []
        self.show_level()
        self.left.set_empty("Reading the snapshot ...")

        def opened(found: list[Any]) -> None:
            if self.place != wanted:
                return  # somebody went elsewhere meanwhile
            self.archives = [ArchiveRow(one) for one in found]
            name = archive or (found[0].name if len(found) == 1 else "")
            if name:
                self.open_archive(name, path=path)
            else:
                self.left.set_empty("This snapshot holds nothing that can be restored.")
                self._show_archives()

        reader = self.hold.reader
        self.read(
            lambda: archives_of(reader, store, snapshot),
            opened,
            failed=self.left_failed,
            group="snapshot",
        )

    def left_failed(self, error: Exception) -> None:
        """Instead of rows: what failed."""
        hint = getattr(error, "hint", None) or "h goes out."
        if isinstance(error, KeyProblem):
            hint = "i names the key file; h goes out."
        self.left.set_error(str(error), hint)

    def open_archive(self, name: str, *, path: bytes = b"", cursor: object = None) -> None:
        """Go into an archive: a tree to its directory `path`, anything else to its own page."""
        place = self.place
        snapshot = place.snapshot
        if snapshot is None:
            return
        self.close_archive()
        self.place = wanted = replace(place, archive=name, path=path)
        self.left.use(self.file_columns(), marks_allowed=False)
        self.left.set_empty("Opening the archive ...")
        self.show_level()
        reader = self.hold.reader

        def open_it() -> tuple[ArchiveReader, bytes]:
            opened = ArchiveReader(reader, place.store, snapshot, name)
            there = path
            while opened.is_tree and there and not opened.has_folder(there):
                there = there.rpartition(b"/")[0]
            return opened, there

        def opened(result: tuple[ArchiveReader, bytes]) -> None:
            if self.place != wanted:
                return  # somebody went elsewhere meanwhile
            self.archive, there = result
            if not self.target:
                self.target = self.default_target(snapshot)
            self.left.path_marks = self.marks.setdefault(name, PathMarks())
            if self.archive.is_tree:
                self.open_folder(there, cursor=cursor or (path if path != there else None))
                self._look_for_damage(self.archive)
            else:
                self.show_image(self.archive)
            self.look_at_target()

        self.read(open_it, opened, failed=self.left_failed, group="archive")

    def close_archive(self) -> None:
        """Nothing is open any more."""
        self.archive = None
        self.table = self.index = self.found = None
        self.vs, self.is_compared = {}, False
        self._folder_turn = self._index_turn = self._vs_turn = self._search_turn = None

    def default_target(self, snapshot: SnapshotId) -> str:
        """A new directory named after group and time."""
        moment = time.strftime("%Y%m%d-%H%M", time.localtime(snapshot.time_s))
        return os.path.join(os.path.expanduser("~"), "restore", f"{snapshot.group.id}-{moment}")

    def _look_for_damage(self, archive: ArchiveReader) -> None:
        facts = self.hold.store_facts.get(self.place.store)
        if facts is None or not (facts.failed or facts.bad_chunks):
            return

        def looked(_result: None) -> None:
            if self.archive is archive and archive.bad_stretches:
                self.left.refresh()
                self.show_plan()

        self.read(
            lambda: archive.look_for_damage(lambda: self.archive is archive), looked, group="damage"
        )

    def action_sibling(self, step: int) -> None:
        """The same place in the next older or newer snapshot."""
        place = self.place
        rows = self.snapshots()
        at = next((n for n, row in enumerate(rows) if row.snapshot == place.snapshot), None)
        if at is None or not place.archive:
            self.say("open a snapshot first; then [ and ] go to those before and after")
            return
        if not 0 <= at + step < len(rows):
            self.say(f"there is no {'older' if step > 0 else 'newer'} snapshot")
            return
        cursor = self.left.current_key
        self.place = replace(place, snapshot=rows[at + step].snapshot)
        self.open_archive(place.archive, path=place.path, cursor=cursor)

    # Files ----------------------------------------------------------------------------------------

    def file_columns(self, *, whole_path: bool = False) -> list[Any]:
        return columns.file_columns(
            lambda row: self.vs.get(row.path, Differs.NEW if self.is_compared else ""),
            lambda row: self.archive is not None and self.archive.is_damaged(row),
            self.hold.clock,
            whole_path=whole_path,
        )

    def open_folder(self, path: bytes, *, cursor: object = None) -> None:
        """Show a directory of the archive; large ones appear while they are read."""
        archive = self.archive
        if archive is None or not archive.is_tree:
            return
        if self.hold.gate.no_content:
            self.left.set_error("file names are not shown (started with --no-content)")
            return
        table = FileTable(path + b"/" if path else b"")
        turn = self._folder_turn = object()
        self.place = replace(self.place, path=path)
        self.table, self.found = table, None
        self.left.use(self.file_columns(), marks_allowed=True)
        self.left.set_empty("Reading the directory ...")
        self._cursor_to = cursor
        self.show_files_title()
        if self._grows is not None:
            self._grows.resume()

        def failed(error: Exception) -> None:
            if self._folder_turn is turn:
                self.left_failed(error)

        self.read(
            lambda: archive.read_folder(path, table, lambda: self._folder_turn is turn),
            lambda _none: self._folder_read(table),
            failed=failed,
            group="folder",
        )
        self.hold._update_bars()  # noqa: SLF001  # the crumbs changed

    def _grow(self) -> None:
        """While something is read: show what has come so far."""
        table = self.table
        growing = False
        if table is not None and self.found is None and not table.is_complete:
            growing = True
            if len(table) != len(self.left.rows):
                self.left.set_rows(table)
                self._put_cursor()
                self.show_files_title()
        if self.index is not None and not self.index.is_complete:
            growing = True
            if self.found is not None and len(self.index) > _MORE * self._searched:
                self.search_again()
        if not growing and self._grows is not None:
            self._grows.pause()

    def _folder_read(self, table: FileTable) -> None:
        if self.table is not table or self.found is not None:
            return
        self.left.set_empty("This directory is empty.", "h goes out.")
        self.left.set_rows(table)
        self._put_cursor()
        self.show_files_title()
        self.compare_again()

    def show_files_title(self) -> None:
        rows = self.snapshots()
        at = next((n for n, row in enumerate(rows, 1) if row.snapshot == self.place.snapshot), 0)
        where = f"[ {at}/{len(rows)} ]" if at and len(rows) > 1 else ""
        if self.found is not None:
            found = self.found
            title = f"Found: {self.found_words}" if self.found_words else "Everything below"
            more = f", {found.loose:,} like it" if found.loose else ""
            cut = f", first {SHOWN_MAX:,}" if found.literal > SHOWN_MAX else ""
            reading = ""
            if self.index is not None and not self.index.is_complete:
                reading = f" of {len(self.index):,} read so far"
            self.left.title(title, f"{found.literal:,} matches{more}{cut}{reading}")
            return
        path = "/" + text_of(self.place.path)
        reading = ""
        if self.table is not None and not self.table.is_complete and len(self.table):
            reading = f"reading {len(self.table):,} "
        self.left.title(clean(path), f"{reading}{where}")

    def on_row_list_marked(self, message: RowList.Marked) -> None:
        message.stop()
        self.show_plan()
        self.keep_plan()

    def on_row_list_moved(self, message: RowList.Moved) -> None:
        message.stop()
        if message.rows is self.left and self.has_class("-preview"):
            self.show_preview()

    # Encryption -----------------------------------------------------------------------------------

    def action_keyfile(self) -> None:
        """Name the key of the store's encrypted snapshots."""
        reader, store = self.hold.reader, self.place.store

        def known(path: str) -> None:
            self.hold.ask_line("key file", partial(self._take_keyfile, store), value=path)

        if store:
            self.read(lambda: reader.key_path(store), known, group="key")
        else:
            self.say("go into a group first; its store's key is asked for")

    def _take_keyfile(self, store: str, typed: str) -> None:
        path = os.path.abspath(os.path.expanduser(typed.strip()))

        def asks(*, is_locked: bool) -> None:
            if is_locked:
                then = partial(self._try_key, store, path)
                self.hold.ask_line("its passphrase", then, secret=True)
            else:
                self._use_key(store, path, b"")

        if typed.strip():
            self.read(
                lambda: needs_passphrase(path), lambda found: asks(is_locked=found), group="key"
            )

    def _try_key(self, store: str, path: str, typed: str) -> None:
        passphrase = os.fsencode(typed)
        self.say("opening the key ...")
        self.read(
            lambda: check_key(path, passphrase),
            lambda _none: self._use_key(store, path, passphrase),
            group="key",
        )

    def _use_key(self, store: str, path: str, passphrase: bytes) -> None:
        self.hold.reader.keys[store] = (path, passphrase)
        self.say(f"snapshots of {store} are opened with {clean(path)}", "good")
        place = self.place
        if place.store == store and place.snapshot is not None:
            self.open_snapshot(store, place.snapshot, archive=place.archive, path=place.path)

    # Rules ----------------------------------------------------------------------------------------

    def action_conflict(self) -> None:
        at = POLICIES.index(self.policy)
        self.policy = POLICIES[(at + 1) % len(POLICIES)]
        self.show_plan()
        self.keep_plan()


def _put(pane: FileList, *, shown: bool) -> None:
    """Show a side or not; the style sheet still decides about a side that is shown."""
    if shown == (pane.styles.inline.display != "none"):
        return
    if shown:
        pane.styles.clear_rule("display")
        pane.refresh(layout=True)
    else:
        pane.styles.display = "none"
