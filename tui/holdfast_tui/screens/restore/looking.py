"""Looking into files before they are restored: contents, differences, versions."""

import os
from functools import partial
from typing import Any

from holdfast.archive.pxar.format import Kind
from holdfast.ids import SnapshotId
from holdfast.operations.find import FindRequest, FoundPath, find
from holdfast.operations.progress import NullProgress
from holdfast.shown import printable
from holdfast.units import MIB
from holdfast_tui.archive_reader import ArchiveReader, key_of, read_host_file
from holdfast_tui.dialogs.versions import FoundRow, VersionRow, VersionsDialog
from holdfast_tui.model.files import FileRow
from holdfast_tui.model.restore_plan import literal
from holdfast_tui.render import fmt
from holdfast_tui.screens.restore.shared import Shared
from holdfast_tui.widgets.preview import BYTES_MAX, content_lines, diff_lines, hex_lines
from holdfast_tui.widgets.strips import Line

_DIGEST_BYTES_MAX = 8 * MIB
_FOUND_MAX = 2000


class Warned(NullProgress):
    """Keeps what could not be read."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


class Looking(Shared):
    """The part of the restore view that shows contents."""

    # Preview --------------------------------------------------------------------------------------

    def run_action_if_allowed(self, action: str) -> None:
        """What enter on a file does, unless contents are not to be shown."""
        if self.check_action(action, ()):
            getattr(self, f"action_{action}")()

    def action_preview(self) -> None:
        if self.archive is None:
            self.say("open a snapshot first: l goes in")
        elif self.has_class("-preview"):
            self.remove_class("-preview")
        else:
            self.add_class("-preview")
            self.call_after_refresh(self.show_preview)

    def action_scroll_preview(self, direction: int) -> None:
        if self.has_class("-preview"):
            self.preview.scroll_lines(direction * max(1, self.preview.content_size.height - 1))

    def show_preview(self) -> None:
        """The file under the cursor."""
        archive, row = self.archive, self.current
        if archive is None:
            return
        if not archive.is_tree:
            self._preview_image(archive)
            return
        if not isinstance(row, FileRow):
            return
        name = printable(row.name)
        if row.kind not in (Kind.FILE, Kind.HARDLINK, Kind.SYMLINK):
            what = "a directory: l goes in" if row.is_directory else f"a {row.kind.value}"
            self.preview.show(name, [[(f" {what}", "dim")]])
            return
        width, unicode = self.preview.content_size.width, self.look.unicode

        def shown(data: bytes) -> None:
            if row.kind is Kind.SYMLINK:
                lines: list[Line] = [[(" leads to ", "dim"), (printable(data), "text")]]
            else:
                lines = content_lines(data, unicode=unicode, width=width)
            if not lines:
                lines = [[(" an empty file", "dim")]]
            cut = f"first {fmt.size(BYTES_MAX)} of " if row.size > len(data) else ""
            note = "" if row.kind is Kind.SYMLINK else f"{cut}{fmt.size(row.size)}"
            self.preview.show(name, lines, note)

        self.read(
            lambda: archive.content(row, BYTES_MAX),
            shown,
            failed=lambda error: self._not_shown(name, error),
            group="preview",
        )

    def _not_shown(self, name: str, error: Exception) -> None:
        hint = getattr(error, "hint", None) or "t shows the versions of other snapshots."
        self.preview.show(name, [[(f" {error}", "bad")], [(f" {hint}", "dim")]])

    def _preview_image(self, archive: ArchiveReader) -> None:
        name, width = archive.archive.name, self.preview.content_size.width
        is_image = archive.archive.kind.value == "image"

        def shown(data: bytes) -> None:
            unicode = self.look.unicode
            lines = (
                hex_lines(data, width=width)
                if is_image
                else content_lines(data, unicode=unicode, width=width)
            )
            self.preview.show(name, lines, fmt.size(archive.archive.size))

        self.read(
            lambda: archive.first_bytes(4096 if is_image else BYTES_MAX),
            shown,
            failed=lambda error: self._not_shown(name, error),
            group="preview",
        )

    # Differences ----------------------------------------------------------------------------------

    def action_diff(self) -> None:
        """The file under the cursor: in the snapshot, and at the destination."""
        archive, row = self.archive, self.current
        if archive is None or not isinstance(row, FileRow) or row.kind is not Kind.FILE:
            self.say("d compares a file with the one at the destination: choose a file")
            return
        there = os.path.join(os.fsencode(self.target), row.path)
        moment = self.place.moment

        def both() -> tuple[bytes, bytes | None]:
            return archive.content(row, BYTES_MAX), read_host_file(there, BYTES_MAX)

        def shown(found: tuple[bytes, bytes | None]) -> None:
            before, after = found
            if after is None:
                self.say(f"there is no {printable(there)}; w chooses another destination")
                return
            names = (f"snapshot {moment}", printable(there))
            lines = diff_lines(before, after, unicode=self.look.unicode, names=names)
            note = f"first {fmt.size(BYTES_MAX)} compared" if row.size > BYTES_MAX else ""
            self.add_class("-preview")
            self.preview.show(f"{printable(row.name)}: what differs", lines, note)

        self.read(both, shown, group="preview")

    # Versions -------------------------------------------------------------------------------------

    def action_timeline(self) -> None:
        """Every distinct version of the path under the cursor."""
        row, group = self.current, self.place.group
        if not isinstance(row, FileRow) or group is None or self.archive is None:
            self.say("t shows the versions of a file: choose one")
            return
        self._look_everywhere(literal(row.path), row)

    def action_everywhere(self) -> None:
        """Find a name in every snapshot of the group."""
        if self.place.group is None:
            self.say("choose a group first: l goes in")
            return
        self.hold.ask_line("find in all snapshots", self._find_everywhere)

    def _find_everywhere(self, text: str) -> None:
        if text.strip():
            pattern = text.strip()
            if not set(pattern) & set("*?["):
                pattern = f"*{pattern}*"
            self._look_everywhere(os.fsencode(pattern), None)

    def _look_everywhere(self, pattern: bytes, row: FileRow | None) -> None:
        place, reader = self.place, self.hold.reader
        group = place.group
        if group is None:
            return
        self.say(f"looking through {len(self.snapshots())} snapshots ...")
        warned = Warned()

        def look() -> list[FoundPath]:
            request = FindRequest(
                pattern=pattern,
                ns=group.ns,
                group=group,
                read_bytes_max=_DIGEST_BYTES_MAX,
            )
            store = reader.open(place.store)
            return find(store, request, key_of(reader, place.store), warned)

        def found(paths: list[FoundPath]) -> None:
            same = [one for one in paths if not place.archive or one.archive == place.archive]
            if row is not None:
                self._show_versions(row, same, warned.warnings)
            else:
                self._show_paths(paths, warned.warnings)

        self.read(look, found, group="versions")

    def _show_versions(self, row: FileRow, paths: list[FoundPath], warnings: list[str]) -> None:
        verified = {one.snapshot: one for one in self.snapshots()}
        versions = [version for path in paths for version in path.versions]
        versions.sort(key=lambda version: version.snapshots[-1].time_s, reverse=True)
        rows: list[Any] = [
            VersionRow(version, self.place.snapshot in version.snapshots, verified)
            for version in versions
        ]
        count = sum(len(version.snapshots) for version in versions)
        title = f"{printable(row.name)}: {fmt.plural(len(rows), 'version')} in {count} snapshots"
        self.say("")
        dialog = VersionsDialog(title + _unread(warnings), rows, warnings=warnings)
        self.hold.background(partial(self._choose, dialog, row.path), group="choose")

    def _show_paths(self, paths: list[FoundPath], warnings: list[str]) -> None:
        rows: list[Any] = [FoundRow(path) for path in paths[:_FOUND_MAX]]
        self.say("")
        title = f"Found in all snapshots of {self.place.group}: {fmt.plural(len(paths), 'path')}"
        dialog = VersionsDialog(title + _unread(warnings), rows, found=True, warnings=warnings)
        self.hold.background(partial(self._choose, dialog, None), group="choose")

    async def _choose(self, dialog: VersionsDialog, path: bytes | None) -> None:
        chosen = await self.hold.ask(dialog)
        if chosen is not None:
            self._go_to(chosen.snapshot, chosen.archive or self.place.archive, path or chosen.path)

    def _go_to(self, snapshot: SnapshotId, archive: str, path: bytes) -> None:
        from dataclasses import replace

        self.place = replace(self.place, snapshot=snapshot)
        self.open_archive(archive, path=path.rpartition(b"/")[0], cursor=path)


def _unread(warnings: list[str]) -> str:
    return f", {len(warnings)} damaged" if warnings else ""
