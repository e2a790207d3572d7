"""Before Textual is imported: is there a terminal, what can it show, how shall it behave?

Textual reads its settings from the environment when it is imported, so all that happens here first.
"""

import os
import shutil
import sys
import threading
from typing import TYPE_CHECKING, Final

from holdfast.errors import EXIT_OK, BadRequest
from holdfast_tui.options import Options

if TYPE_CHECKING:
    from holdfast_tui.model.stores import StoreFacts
    from holdfast_tui.render.look import Look

COLUMNS_MIN: Final = 40
LINES_MIN: Final = 10
_FEW_COLOURS: Final = ("linux", "vt", "ansi", "cons25", "xterm-16color", "screen.linux")
_MANY: Final = 256


def launch(options: Options) -> int:
    """Run the terminal UI until the person leaves; the exit code (BadRequest, HoldfastError)."""
    reason = why_not(os.environ.get("TERM", ""))
    if reason:
        raise BadRequest(
            f"the terminal UI cannot run: {reason}",
            hint="`holdfast snapshots` and `holdfast task list` show the same as text",
        )
    prepare_environment(options)
    sys.setswitchinterval(0.001)  # a thread that reads must not keep a key waiting
    look = look_of(options, os.environ)
    import gc

    gc.disable()  # nothing of the imports will ever be garbage
    first = FirstLook(options)
    first.start()
    from holdfast_tui.app import HoldfastApp

    gc.freeze()
    gc.enable()
    app = HoldfastApp(options, look, reader=first.reader, first=first.facts)
    said = app.run(mouse=False)
    if said:
        sys.stderr.write(f"{said}\n")
    return app.return_code or EXIT_OK


class FirstLook(threading.Thread):
    """Looks at the stores while the rest is imported, so that the first screen shows them.

    Attributes:
        reader: for the rest of the run.
        facts: as far as they are known; a store whose disk does not answer keeps nobody waiting.
    """

    def __init__(self, options: Options) -> None:
        from holdfast_tui.reader import Reader

        super().__init__(name="first-look", daemon=True)
        self.reader = Reader(options)
        self.facts: list[StoreFacts] = []

    def run(self) -> None:
        self.facts += self.reader.first_facts()


def why_not(term: str) -> str:
    """Why no full screen is possible here; empty when it is."""
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        return "it needs a terminal for its input and output"
    if term in ("", "dumb", "unknown"):
        return f"the terminal says it can do nothing (TERM={term or 'empty'})"
    size = shutil.get_terminal_size()
    if size.columns < COLUMNS_MIN or size.lines < LINES_MIN:
        return (
            f"the terminal has {size.columns}x{size.lines} cells, "
            f"at least {COLUMNS_MIN}x{LINES_MIN} are needed"
        )
    return ""


def prepare_environment(options: Options) -> None:
    """Textual's own settings: nothing moves by itself, the same keys on every terminal."""
    wanted = {
        "TEXTUAL_ANIMATIONS": "none",
        "TEXTUAL_SMOOTH_SCROLL": "0",
        "TEXTUAL_FPS": "10" if options.slow else "60",
        "TEXTUAL_DISABLE_KITTY_KEY": "1",
    }
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    if options.no_color:
        os.environ.pop("NO_COLOR", None)  # with it Textual greys; our own theme has no colours


def look_of(options: Options, environment: "os._Environ[str] | dict[str, str]") -> "Look":
    """The best look this terminal and the options allow."""
    from holdfast_tui.render.look import Look

    unicode = not options.ascii and speaks_unicode(environment)
    return Look(unicode=unicode, theme=theme_for(options, environment), slow=options.slow)


def speaks_unicode(environment: "os._Environ[str] | dict[str, str]") -> bool:
    """By the locale, in the order the C library looks; old consoles show no Unicode."""
    if environment.get("TERM", "").startswith(("linux", "vt")):
        return False
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        value = environment.get(name, "")
        if value:
            return "utf-8" in value.lower() or "utf8" in value.lower()
    return False


def colours_of(environment: "os._Environ[str] | dict[str, str]") -> int:
    """How many colours the terminal has, by what it says of itself."""
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return 1 << 24
    term = environment.get("TERM", "").lower()
    if "256color" in term or "direct" in term:
        return _MANY
    return 16 if not term.startswith(_FEW_COLOURS) else 8


def theme_for(options: Options, environment: "os._Environ[str] | dict[str, str]") -> str:
    """`mono` without colours, `ansi` with few, else what was asked for, else by the ground."""
    if options.no_color:
        return "mono"
    if options.theme:
        return options.theme
    if colours_of(environment) < _MANY or options.ascii:
        return "ansi"
    ground = environment.get("COLORFGBG", "").rpartition(";")[2]
    return "paper" if ground in ("7", "15") else "harbour"
