"""What a command says: data to stdout, remarks to stderr, one JSON document when asked for.

stdout carries only what was asked for, so that it can be piped; everything else goes to stderr. A
reader that closes the pipe early (`| head`) ends the command quietly.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO

from holdfast.cli import plain_text
from holdfast.errors import BadRequest, HoldfastError, Refused

if TYPE_CHECKING:
    from holdfast.cli.progress_bar import ConsoleProgress
    from holdfast.jobs.journal import RunningTask
    from holdfast.jobs.task_progress import TaskProgress

EXIT_PIPE_CLOSED: Final = 141  # as a shell reports a program that SIGPIPE ended
_STYLES: Final = {
    "good": "32",
    "warning": "33",
    "bad": "1;31",
    "title": "1",
    "faint": "2",
}


class OutputClosed(HoldfastError):
    """Whoever read our output has enough; nothing to complain about."""

    exit_code = EXIT_PIPE_CLOSED
    kind = "output-closed"


class Console:
    """The two streams of one run of the program.

    Attributes:
        wants_json: the result is to be one JSON document.
        is_quiet: only errors and warnings are wanted.
        verbosity: 0, 1 or 2.
        warning_count: how often something was skipped so far.
        task: the journal's entry for this run, whose log gets the remarks too; or None.
        task_progress: where the task's progress is published.
    """

    def __init__(self, args: Namespace, *, out: TextIO | None = None, err: TextIO | None = None):
        self.wants_json = bool(args.json)
        self.is_quiet = bool(args.quiet)
        self.verbosity = int(args.verbose)
        self.warning_count = 0
        self._out = out if out is not None else sys.stdout
        self._err = err if err is not None else sys.stderr
        colors = not args.no_color and os.environ.get("TERM", "") != "dumb"
        self._out_colors = colors and _is_terminal(self._out)
        self._err_colors = colors and _is_terminal(self._err)
        self._line_to_clear = False
        self.is_redirected = False
        self.task: RunningTask | None = None
        self.task_progress: TaskProgress | None = None

    def join_task(self, task: "RunningTask", progress: "TaskProgress") -> None:
        """From now on remarks and progress also go into the journal."""
        self.task, self.task_progress = task, progress

    def leave_task(self) -> None:
        self.task = self.task_progress = None

    def redirect(self, out: TextIO, err: TextIO) -> None:
        """Write to other streams from now on; for workers without a terminal."""
        self._out, self._err = out, err
        self._out_colors = self._err_colors = False
        self.is_redirected = True

    def derived(self, args: Namespace) -> "Console":
        """A console for a command inside this one: the same streams, the same task."""
        console = Console(args, out=self._out, err=self._err)
        console.task, console.task_progress = self.task, self.task_progress
        return console

    # stdout --------------------------------------------------------------------------------------

    def data(self, text: str = "") -> None:
        """One line of what was asked for; make names in it harmless first."""
        with self._writing_out():
            self._out.write(text + "\n")

    def lines(self, rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """A table with aligned columns; every cell is made harmless."""
        table = [[plain_text.harmless(cell) for cell in row] for row in rows]
        if table:
            self.data("\n".join(plain_text.columns(table, right=frozenset(right))))

    def data_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Raw bytes, such as a file's content."""
        with self._writing_out():
            self._out.flush()
            self._out.buffer.write(data)

    def document(self, value: object) -> None:
        """The one JSON document of a `--json` run; ASCII only, so no name can do harm."""
        import json

        with self._writing_out():
            self._out.write(json.dumps(value, indent=2 if self.writes_to_terminal else None) + "\n")

    def flush(self) -> None:
        with self._writing_out():
            self._out.flush()

    @contextmanager
    def _writing_out(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError as error:
            silence(self._out)
            raise OutputClosed("the reader of the output has gone") from error
        except OSError as error:
            from holdfast.host.files import as_holdfast_error

            silence(self._out)
            raise as_holdfast_error(error, "writing the output") from error

    @property
    def writes_to_terminal(self) -> bool:
        """Whether stdout is a terminal."""
        return _is_terminal(self._out)

    # stderr --------------------------------------------------------------------------------------

    def remark(self, text: str) -> None:
        """Something worth knowing that was not asked for; not with --quiet."""
        if self.task is not None:
            self.task.say(text)
        if not self.is_quiet:
            self._say(text)

    def detail(self, text: str) -> None:
        """Only with -v."""
        if self.verbosity:
            self._say(text)

    def warning(self, text: str) -> None:
        """Something was skipped: the exit code becomes 3 if nothing worse happens."""
        self.warning_count += 1
        if self.task is not None:
            self.task.warn(text)
        mark = self._styled("warning:", "warning", colors=self._err_colors)
        self._say(f"{mark} {plain_text.harmless(text)}")

    def error(self, error: HoldfastError) -> None:
        """The one sentence of a failed run, or its JSON form; never raises."""
        if self.wants_json:
            import json

            facts = {"code": error.exit_code, "kind": error.kind, "message": str(error)}
            self._say(json.dumps({"error": facts | {"hint": error.hint}}))
            return
        mark = self._styled("error:", "bad", colors=self._err_colors)
        self._say(f"{mark} {plain_text.harmless(str(error))}")
        if error.hint:
            self._say(f"hint: {plain_text.harmless(error.hint)}")

    def status_line(self, text: str) -> None:
        """Show `text` in place of the previous status line; empty takes it away. Terminals only."""
        self._line_to_clear = bool(text)
        self._write_err(f"\r\x1b[K{text}")

    @property
    def has_status_line(self) -> bool:
        """Whether a line that replaces itself can be shown."""
        return _is_terminal(self._err) and os.environ.get("TERM", "") != "dumb"

    def _say(self, text: str) -> None:
        clear = "\r\x1b[K" if self._line_to_clear else ""
        self._line_to_clear = False
        self._write_err(f"{clear}{text}\n")

    def _write_err(self, text: str) -> None:
        try:
            self._err.write(text)
            self._err.flush()
        except (OSError, ValueError):  # nobody left to tell
            silence(self._err)

    # both ----------------------------------------------------------------------------------------

    def styled(self, text: str, style: str) -> str:
        """`text` in one of the styles good, warning, bad, title, faint, for stdout."""
        return self._styled(text, style, colors=self._out_colors)

    def _styled(self, text: str, style: str, *, colors: bool) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colors else text

    def confirm(self, question: str, *, yes: bool, word: str | None = None) -> None:
        """Go on only if a person agrees.

        Args:
            question: what is about to happen, with its figures, without the question mark.
            yes: `--yes` was given.
            word: has to be typed instead of `y`, for what cannot be undone.

        Raises:
            BadRequest: no terminal to ask on, and no `--yes`.
            Refused: the answer was no.
        """
        if yes:
            return
        if not (_is_terminal(sys.stdin) and _is_terminal(self._err)):
            raise BadRequest(
                f"{question}: not without a confirmation",
                hint="there is no terminal to ask on; add --yes, or -n to see what would happen",
            )
        wanted = "y" if word is None else word
        how = "[y/N]" if word is None else f"Type {plain_text.harmless(word)} to go on:"
        self._write_err(f"{plain_text.harmless(question)}? {how} ")
        answer = sys.stdin.readline().strip()
        if answer != wanted and not (word is None and answer.lower() in {"y", "yes"}):
            raise Refused("not confirmed, nothing was changed")

    def progress(self) -> "ConsoleProgress":
        """A reporter for one operation; use as a context manager, it clears up after itself."""
        from holdfast.cli.progress_bar import ConsoleProgress

        return ConsoleProgress(self, journal=self.task_progress)


def silence(stream: TextIO) -> None:
    """Point a broken stream at nothing, so that closing it at exit cannot complain."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
    except (OSError, ValueError):
        pass


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False
