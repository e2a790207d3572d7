"""Everything a front end may show to a person instead of a traceback.

HoldfastError              exit  kind          the caller's move
├── BadRequest                2  usage         change the request
├── NotFound                 10  not-found     name another store, snapshot, archive or path
├── Busy                     11  busy          a lock is held: try again later
├── KeyProblem               12  key           give the right key or passphrase
├── Refused                  13  refused       not allowed as things stand
│   ├── ReadOnlyViolation    13  read-only     open the store for writing
│   └── Protected            13  protected     remove the protection first
├── NoSpace                  14  no-space      free space, then try again
├── NothingMatched           15  no-match      widen the pattern
├── DamagedData              20  damaged       restore from another copy
│   └── MissingChunk         20  missing-chunk same; verify the snapshots that want it
├── TemporaryFailure         75  temporary     retry
└── Stopped             130/143  stopped       asked for by a signal

A run that finished but skipped something is no error: operations return their warnings and the
command line turns them into exit code 3 (`EXIT_WARNINGS`).
"""

from typing import ClassVar, Final

EXIT_OK: Final = 0
EXIT_WARNINGS: Final = 3


class HoldfastError(Exception):
    """One sentence for a person, an exit code for a script, and what may help."""

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "failed"
    is_transient: ClassVar[bool] = False  # read by jobs.retry, never guessed from the text

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadRequest(HoldfastError):
    exit_code = 2
    kind = "usage"


class NotFound(HoldfastError):
    exit_code = 10
    kind = "not-found"


class Busy(HoldfastError):
    exit_code = 11
    kind = "busy"
    is_transient = True


class KeyProblem(HoldfastError):
    exit_code = 12
    kind = "key"


class Refused(HoldfastError):
    exit_code = 13
    kind = "refused"


class ReadOnlyViolation(Refused):
    kind = "read-only"


class Protected(Refused):
    kind = "protected"


class NoSpace(HoldfastError):
    exit_code = 14
    kind = "no-space"
    is_transient = True


class NothingMatched(HoldfastError):
    exit_code = 15
    kind = "no-match"


class DamagedData(HoldfastError):
    """Bytes that are not what was once written: never used, never silently replaced.

    Attributes:
        what: the thing that is damaged, such as "fixed index" or a chunk's digest.
        reason: why it cannot be believed.
    """

    exit_code = 20
    kind = "damaged"

    def __init__(self, what: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"{what} is damaged: {reason}", hint=hint)
        self.what = what
        self.reason = reason


class MissingChunk(DamagedData):
    kind = "missing-chunk"

    def __init__(self, digest: bytes) -> None:
        super().__init__(
            f"chunk {digest.hex()}",
            "its file is missing from the store",
            hint="run `holdfast verify` to find the snapshots that need it",
        )
        self.digest = digest


class TemporaryFailure(HoldfastError):
    exit_code = 75
    kind = "temporary"
    is_transient = True


class Stopped(HoldfastError):
    """Somebody asked for the end of the work: SIGINT (130) or SIGTERM (143)."""

    kind = "stopped"

    def __init__(self, signal_number: int) -> None:
        super().__init__("stopped on request; what was finished before stays")
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number  # type: ignore[misc]
