"""What the parts of the restore view share: its state, and what each may ask of the others."""

from typing import Any

from textual.timer import Timer

from holdfast.archive.restore_rules import Overwrite
from holdfast.archive.restore_without import Without
from holdfast.ids import SnapshotId
from holdfast_tui.archive_reader import ArchiveReader, HostFolder
from holdfast_tui.model.files import FileTable
from holdfast_tui.model.marks import PathMarks
from holdfast_tui.model.restore_plan import Selection
from holdfast_tui.model.search import Found
from holdfast_tui.model.snapshots import SnapshotRow
from holdfast_tui.screens.restore.columns import ArchiveRow
from holdfast_tui.screens.restore.place import Place
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.filelist import FileList
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.preview import Preview


class Shared(View):
    """State of the restore view.

    Attributes:
        place: where on the ladder one is.
        archive: the one that is open.
        marks: by name of archive; they stay when another snapshot of the group is opened.
        table: rows of the directory that is shown.
        found, found_table: what a search came to, when its rows are shown instead.
        index: every path of the archive, as far as it was read.
        vs: what rows are at the destination; `is_compared` once all of it is known.
        host: the destination.
        side: the one in front, in a narrow terminal the only one that is shown.
        target: its path.
        policy, without: how to restore.
    """

    def __init__(self) -> None:
        super().__init__()
        self.place = Place()
        self.archive: ArchiveReader | None = None
        self.archives: list[ArchiveRow] = []
        self.marks: dict[str, PathMarks] = {}
        self.table: FileTable | None = None
        self.found: Found | None = None
        self.found_table: FileTable | None = None
        self.found_words = ""
        self.index: FileTable | None = None
        self.vs: dict[bytes, str] = {}
        self.is_compared = False
        self.host: HostFolder | None = None
        self.target = ""
        self.side = "left"
        self.policy = Overwrite.KEEP_BOTH
        self.without = Without.NOTHING
        self._cursor_to: object = None
        self._folder_turn: object = None
        self._index_turn: object = None
        self._vs_turn: object = None
        self._search_turn: object = None
        self._searched = 0
        self._grows: Timer | None = None

    @property
    def left(self) -> FileList:
        return self.query_one("#left", FileList)

    @property
    def right(self) -> FileList:
        return self.query_one("#right", FileList)

    @property
    def preview(self) -> Preview:
        return self.query_one(Preview)

    @property
    def plan_pane(self) -> LinePane:
        return self.query_one("#plan", LinePane)

    @property
    def current(self) -> Any:
        """The row under the cursor of the left side."""
        return self.left.current

    def snapshots(self) -> list[SnapshotRow]:
        """Finished snapshots of the group, newest first."""
        catalogue = self.hold.catalogues.get(self.place.store)
        if catalogue is None or self.place.group is None:
            return []
        rows = catalogue.groups.get(self.place.group, ())
        return [row for row in rows if not row.summary.is_unfinished]

    def rule(self) -> Overwrite:
        """What the engine is asked for: nothing special while there is nothing in the way."""
        host = self.host
        if host is None or not host.exists or host.is_empty:
            return Overwrite.FRESH
        return self.policy

    def selection(self) -> Selection | None:
        """What is marked; an image or blob is wanted as a whole."""
        place, archive = self.place, self.archive
        if place.snapshot is None or archive is None:
            return None
        marks = self.marks.get(place.archive) if archive.is_tree else None
        return Selection(
            store=place.store,
            snapshot=place.snapshot,
            archive=place.archive,
            target=self.target,
            decisions=marks.decisions if marks else {},
            policy=self.policy,
            without=self.without,
            keyfile=self.hold.reader.keys.get(place.store, ("", b""))[0],
        )

    # Each is somewhere else -----------------------------------------------------------------------

    def open_snapshot(
        self, store: str, snapshot: SnapshotId, *, archive: str = "", path: bytes = b""
    ) -> None:
        """Go to a snapshot."""
        raise NotImplementedError

    def open_archive(self, name: str, *, path: bytes = b"", cursor: object = None) -> None:
        """Go into an archive of the snapshot."""
        raise NotImplementedError

    def open_folder(self, path: bytes, *, cursor: object = None) -> None:
        """Go to a directory of the archive."""
        raise NotImplementedError

    def look_at_target(self) -> None:
        """Read the destination again."""
        raise NotImplementedError

    def show_plan(self) -> None:
        """Draw the pane at the bottom again."""
        raise NotImplementedError

    def keep_plan(self) -> None:
        """Remember what is marked, for after a dropped line."""
        raise NotImplementedError

    def read_index(self) -> FileTable | None:
        """Begin to read every path of the archive."""
        raise NotImplementedError

    def show_files_title(self) -> None:
        """Name the left pane after what it shows."""
        raise NotImplementedError

    def file_columns(self, *, whole_path: bool = False) -> list[Any]:
        """Columns for rows of the archive."""
        raise NotImplementedError

    def close_found(self) -> None:
        """Back from what was found to the directory."""
        raise NotImplementedError

    def search_again(self) -> None:
        """Look again, since more of the archive was read."""
        raise NotImplementedError

    def show_image(self, archive: ArchiveReader) -> None:
        """The page of an archive that holds no files."""
        raise NotImplementedError

    def show_preview(self) -> None:
        """The file under the cursor."""
        raise NotImplementedError

    def compare_again(self) -> None:
        """Set the rows of the left side against what is at the destination."""
        raise NotImplementedError

    def set_target(self, path: str) -> None:
        """Restore to another place from now on."""
        raise NotImplementedError
