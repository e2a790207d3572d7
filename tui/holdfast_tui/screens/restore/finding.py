"""Finding paths in the whole archive: an index that is read once, results that can be marked."""

from holdfast_tui.model.files import FileTable, table_of
from holdfast_tui.model.search import SHOWN_MAX, Found, search
from holdfast_tui.screens.restore.shared import Shared


class Finding(Shared):
    """The part of the restore view that finds."""

    def action_find(self) -> None:
        if self.archive is None or not self.archive.is_tree:
            self.say("open an archive of files first: l goes in")
            return
        before = self.found_words if self.found is not None else ""
        self.read_index()
        self.hold.ask_line(
            "find",
            self.find,
            value=before,
            live=lambda text: self.find(text) if text.strip() else None,
            given_up=self.close_found,
        )

    def read_index(self) -> FileTable | None:
        """Begin to read every path of the archive, once."""
        archive = self.archive
        if archive is None or self.index is not None:
            return self.index
        index = self.index = FileTable()
        turn = self._index_turn = object()

        def failed(error: Exception) -> None:
            index.is_complete = True
            self.hold.say_error(error)

        self.read(
            lambda: archive.read_all(index, lambda: self._index_turn is turn),
            lambda _none: self._index_read(index),
            failed=failed,
            group="index",
        )
        if self._grows is not None:
            self._grows.resume()
        return index

    def _index_read(self, index: FileTable) -> None:
        if self.index is index and self.found is not None:
            self.search_again()

    def find(self, text: str) -> None:
        """Show paths that match, of what has been read so far."""
        self.found_words = text.strip()
        if not self.found_words:
            self.close_found()
            return
        self.search_again()

    def search_again(self) -> None:
        index = self.read_index()
        if index is None:
            return
        turn = self._search_turn = object()
        words = self.found_words
        below = self.place.path + b"/" if not words and self.place.path else b""

        self._searched = len(index)

        def look() -> tuple[Found, FileTable]:
            if words:
                found = search(index, words, lambda: self._search_turn is turn)
            else:
                rows = [row for row in index if row.path.startswith(below)]
                found = Found(rows[:SHOWN_MAX], len(rows))
            return found, table_of(found.rows)

        self.read(look, self._show_found, group="search")

    def _show_found(self, result: tuple[Found, FileTable]) -> None:
        first = self.found is None
        if self.archive is None:
            return
        self.found, self.found_table = result
        if first:
            self.left.use(self.file_columns(whole_path=True), marks_allowed=True)
        self.left.set_empty("Nothing in this archive has these letters.", "esc goes back.")
        self.left.set_rows(self.found_table)
        self.show_files_title()
        self.compare_again()

    def close_found(self) -> None:
        """Back to the directory, with the cursor on what was under it."""
        if self.found is not None:
            self.found = None
            self._search_turn = None
            self.open_folder(self.place.path)

    def action_flat(self) -> None:
        if self.found is not None:
            self.close_found()
        elif self.archive is not None and self.archive.is_tree:
            self.found_words = ""
            self.search_again()
