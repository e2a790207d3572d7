"""A pane: a part of a view with a title in its frame (or its rule), and a text on the right."""

from typing import TYPE_CHECKING, cast

from rich.style import Style
from textual.widget import Widget

from holdfast_tui.render.look import Look
from holdfast_tui.render.theme import Palette

if TYPE_CHECKING:
    from holdfast_tui.app import HoldfastApp


class Painted(Widget):
    """A widget that draws its own lines with the app's palette and look."""

    @property
    def hold(self) -> "HoldfastApp":
        return cast("HoldfastApp", self.app)

    @property
    def now_s(self) -> float:
        """Seconds since 1970, by the app's clock."""
        return self.hold.clock.now_s()

    @property
    def look(self) -> Look:
        return self.hold.look

    @property
    def palette(self) -> Palette:
        return self.hold.palette

    @property
    def base_style(self) -> Style:
        """Ground and letters of the theme; empty in sixteen colours: the terminal's own."""
        return self.hold.base_style

    def name_pane(self, title: str, note: str = "") -> None:
        """Title on the left of the frame, a fact on its right; both are plain text."""
        from rich.markup import escape

        if note and self.styles.border_bottom[0] in ("", "none", "hidden"):  # a rule, no frame
            title, note = f"{title} {self.look.rule * 2} {note}", ""
        wanted, right = escape(title), escape(note)
        if self.border_title != wanted:
            self.border_title = wanted
        if self.border_subtitle != right:
            self.border_subtitle = right

    def plain(self) -> str:
        """What the widget shows, as text."""
        return ""
