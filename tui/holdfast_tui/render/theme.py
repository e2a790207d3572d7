"""Colours: one theme for any terminal with 16 colours, three for those with more.

`ansi` uses only the terminal's own sixteen colours, so it fits light and dark terminals alike; with
NO_COLOR it is `mono`. `harbour` (dark), `ember` (dark and warm) and `paper` (light) are for 256
colours and more. Widgets name a meaning ("good", "bad", "dim"); a palette knows its style.
"""

from dataclasses import dataclass
from typing import Final

from rich.style import Style
from textual.theme import Theme


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    """A considered set of colours, as #rrggbb."""

    ground: str
    panel: str
    text: str
    faint: str
    rule: str
    focus: str
    cursor: str
    good: str
    warn: str
    bad: str
    run: str
    stop: str
    key: str
    title: str
    empty: str
    shade: str
    dark: bool = True


HARBOUR: Final = Colours(
    ground="#121620",
    panel="#121620",
    text="#d0d7e2",
    faint="#7a869a",
    rule="#3a4558",
    focus="#5fafd7",
    cursor="#263650",
    good="#87d787",
    warn="#e5c07b",
    bad="#ff6b6b",
    run="#5fd7d7",
    stop="#c792ea",
    key="#ffaf5f",
    title="#87afff",
    empty="#2a3242",
    shade="#181d29",
)
EMBER: Final = Colours(
    ground="#1c1815",
    panel="#1c1815",
    text="#e4d8c8",
    faint="#948672",
    rule="#4d4238",
    focus="#e0894a",
    cursor="#43301f",
    good="#a9b665",
    warn="#e9b143",
    bad="#f2594b",
    run="#7fbfae",
    stop="#d3869b",
    key="#f28534",
    title="#e5a85c",
    empty="#352d26",
    shade="#241f1a",
)
PAPER: Final = Colours(
    ground="#f8f7f2",
    panel="#f8f7f2",
    text="#2b2f36",
    faint="#737a86",
    rule="#c4c6c8",
    focus="#005f87",
    cursor="#d7e6f2",
    good="#2e7d32",
    warn="#9a6700",
    bad="#c62828",
    run="#00707c",
    stop="#8e24aa",
    key="#af4a00",
    title="#1a4f9c",
    empty="#e2e2dc",
    shade="#efeee8",
    dark=False,
)
RICH_THEMES: Final = {"harbour": HARBOUR, "ember": EMBER, "paper": PAPER}
NAMES: Final = ("harbour", "ember", "paper", "ansi", "mono")

_ANSI: Final = {
    "text": "default",
    "dim": "bright_black",
    "rule": "bright_black",
    "title": "bold",
    "head": "bold",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "run": "cyan",
    "stop": "magenta",
    "lost": "bold magenta",
    "key": "bold yellow",
    "accent": "bold cyan",
    "focus": "bold cyan",
    "strong": "bold",
    "cursor": "reverse",
    "cursor-off": "",
    "marked": "bold",
    "bar": "green",
    "bar-warn": "yellow",
    "bar-bad": "red",
    "bar-run": "cyan",
    "bar-edge": "green",
    "bar-warn-edge": "yellow",
    "bar-bad-edge": "red",
    "bar-run-edge": "cyan",
    "empty": "bright_black",
    "badge": "reverse bold",
    "new": "green",
    "same": "bright_black",
    "changed": "yellow",
    "deleted": "red",
    "graph": "cyan",
    "tab": "reverse",
}
_COLOURLESS: Final = {"bold", "reverse", "bold reverse", "reverse bold"}


class Palette:
    """Styles by meaning."""

    def __init__(self, styles: dict[str, str]) -> None:
        self._styles = {name: Style.parse(text) for name, text in styles.items()}
        self._none = Style.null()

    def __getitem__(self, name: str) -> Style:
        """The style; plain text for names nobody defined."""
        return self._styles.get(name, self._none)

    @property
    def names(self) -> list[str]:
        return sorted(self._styles)


def palette(name: str) -> Palette:
    """The styles of the theme called `name`."""
    if name == "mono":
        return Palette({key: _without_colour(text) for key, text in _ANSI.items()})
    colours = RICH_THEMES.get(name)
    if colours is None:
        return Palette(_ANSI)
    return Palette(_styles_of(colours))


def _without_colour(text: str) -> str:
    kept = [word for word in text.split() if word in _COLOURLESS]
    return " ".join(kept) or "default"


def _styles_of(c: Colours) -> dict[str, str]:
    return {
        "text": c.text,
        "dim": c.faint,
        "rule": c.rule,
        "title": f"bold {c.title}",
        "head": c.faint,
        "good": c.good,
        "warn": c.warn,
        "bad": f"bold {c.bad}",
        "run": c.run,
        "stop": c.stop,
        "lost": f"bold {c.stop}",
        "key": c.key,
        "accent": f"bold {c.focus}",
        "focus": f"bold {c.focus}",
        "strong": f"bold {c.text}",
        "cursor": f"on {c.cursor}",
        "cursor-off": f"on {c.shade}",
        "marked": f"bold {c.key}",
        "bar": c.good,
        "bar-warn": c.warn,
        "bar-bad": c.bad,
        "bar-run": c.run,
        "empty": f"on {c.empty}",
        **{
            f"{bar}-edge": f"{colour} on {c.empty}"
            for bar, colour in (
                ("bar", c.good),
                ("bar-warn", c.warn),
                ("bar-bad", c.bad),
                ("bar-run", c.run),
            )
        },
        "badge": f"bold {c.ground} on {c.warn}",
        "new": c.good,
        "same": c.faint,
        "changed": c.warn,
        "deleted": c.bad,
        "graph": c.focus,
        "tab": f"bold {c.ground} on {c.focus}",
    }


def textual_themes() -> list[Theme]:
    """All of them for App.register_theme."""
    return [*(_theme(name, colours) for name, colours in RICH_THEMES.items()), *_ansi_themes()]


def _theme(name: str, c: Colours) -> Theme:
    return Theme(
        name=name,
        primary=c.focus,
        secondary=c.title,
        accent=c.key,
        foreground=c.text,
        background=c.ground,
        surface=c.ground,
        panel=c.panel,
        success=c.good,
        warning=c.warn,
        error=c.bad,
        dark=c.dark,
        variables={
            "rule": c.rule,
            "rule-focus": c.focus,
            "faint": c.faint,
            "pane-title": c.title,
            "input-selection-background": c.cursor,
        },
    )


def _ansi_themes() -> list[Theme]:
    return [
        Theme(
            name=name,
            primary="ansi_default",
            secondary="ansi_default",
            accent="ansi_default",
            foreground="ansi_default",
            background="ansi_default",
            surface="ansi_default",
            panel="ansi_default",
            success="ansi_green" if name == "ansi" else "ansi_default",
            warning="ansi_yellow" if name == "ansi" else "ansi_default",
            error="ansi_red" if name == "ansi" else "ansi_default",
            ansi=True,
            variables={
                "rule": "ansi_bright_black" if name == "ansi" else "ansi_default",
                "rule-focus": "ansi_cyan" if name == "ansi" else "ansi_default",
                "faint": "ansi_bright_black" if name == "ansi" else "ansi_default",
                "pane-title": "ansi_default",
                "border-blurred": "ansi_bright_black",
                "ansi-background": "ansi_default",
                "ansi-foreground": "ansi_default",
                "input-cursor-background": "ansi_default",
                "input-cursor-foreground": "ansi_default",
                "input-cursor-text-style": "reverse",
                "input-selection-background": "ansi_default",
                "input-selection-foreground": "ansi_default",
            },
        )
        for name in ("ansi", "mono")
    ]
