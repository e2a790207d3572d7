"""The destination: where it is, what is there, and what of the snapshot is there already."""

import os

from holdfast_tui.archive_reader import HostFolder, compare
from holdfast_tui.model.files import FileRow
from holdfast_tui.render import fmt
from holdfast_tui.render.clean import clean
from holdfast_tui.screens.restore.shared import Shared

_COMPARED_MAX = 20_000


class OtherSide(Shared):
    """The part of the restore view that shows this host."""

    def action_where(self) -> None:
        if self.archive is None:
            self.say("open a snapshot first: l goes in")
            return
        proposed = self.target if self.target.isprintable() else ""  # it is shown as it is
        self.hold.ask_line("restore to", self.set_target, value=proposed)

    def set_target(self, path: str) -> None:
        """Restore to another place from now on."""
        path = path.strip()
        if not path:
            return
        self.target = os.path.normpath(os.path.join("/", os.path.expanduser(path)))
        self.look_at_target()
        self.keep_plan()

    def go_into_host(self, row: FileRow) -> None:
        if row.is_directory:
            self.set_target(os.path.join(self.target, os.fsdecode(row.name)))

    def look_at_target(self) -> None:
        """Read the destination in a thread, then compare."""
        if self.archive is None:
            return
        target = self.target

        def looked(host: HostFolder) -> None:
            self.host = host
            self._show_host(host)
            self.show_plan()
            self.compare_again()

        room = self.hold.reader.room
        self.read(lambda: HostFolder(target, room=room), looked, group="host")

    def _show_host(self, host: HostFolder) -> None:
        if host.problem:
            self.right.set_error(host.problem, "w types another path.")
        elif not host.exists:
            self.right.set_empty(
                "A new directory:",
                "the restore makes it.",
                "",
                "h goes to the one above,",
                "w types another path.",
            )
            self.right.set_rows([])
        else:
            self.right.set_empty("This directory is empty.", "h goes to the one above.")
            self.right.set_rows(host.rows)
        state = "new" if not host.exists else "this host"
        free = "" if host.free is None else f"free {fmt.size(host.free)}"
        self.right.title(clean(host.path), f"{state} {self.look.dot} {free}" if free else state)

    def compare_again(self) -> None:
        """Set the rows of the left side against what is at the destination."""
        host = self.host
        rows = self.found_table if self.found is not None else self.table
        turn = self._vs_turn = object()
        self.vs, self.is_compared = {}, False
        if host is None or not host.exists or rows is None or len(rows) > _COMPARED_MAX:
            self.left.refresh()
            return

        def compared(found: dict[bytes, str]) -> None:
            if self._vs_turn is turn:
                self.vs, self.is_compared = found, True
                self.left.refresh()

        destination = os.fsencode(host.path)
        self.read(
            lambda: compare(rows, destination, lambda: self._vs_turn is turn), compared, group="vs"
        )
