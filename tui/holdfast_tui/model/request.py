"""What a person wants done, and where a person wants to go: plain values between views and app."""

from dataclasses import dataclass, field
from enum import Enum


class How(Enum):
    """How a command is carried out."""

    DETACHED = "detached"  # a worker that outlives the app; long work
    SHORT = "short"  # a child that is waited for; milliseconds to seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One command, and what has to be confirmed before it.

    Attributes:
        title: what happens, as an imperative: `Forget 3 snapshots`.
        store: name of the store, for --store; None when the command needs none.
        words: the command with its own options; the global ones are added when it runs.
        how: detached worker or short child.
        facts: lines of the question: exact counts and sizes, what stays, what is refused.
        confirm: whether to ask at all; a summary that enter confirms.
        word: has to be typed: the object's own word (group, store, number of files).
        paste_allowed: whether the word may be pasted; not for whole groups and stores.
        done: said when it went well; empty: the task's name, or the title.
        secret: a passphrase for the commands; nobody shows or keeps it.
        more: further commands after this one, each only when the one before went well.
    """

    title: str
    words: tuple[str, ...]
    store: str | None = None
    how: How = How.DETACHED
    facts: tuple[str, ...] = ()
    confirm: bool = True
    word: str = ""
    paste_allowed: bool = True
    done: str = ""
    secret: bytes = field(default=b"", repr=False)
    more: tuple[tuple[str, ...], ...] = ()


def run_job(name: str, *facts: str) -> Request:
    """Run a configured job now, as a process of its own; asks only when there are facts."""
    return Request(
        title=f"Run {name}",
        words=("job", "run", name, "--detach"),
        how=How.SHORT,
        facts=facts,
        confirm=bool(facts),
        done=f"{name} has been started, safe to close",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something in a store, in the journal or in the configuration that a view can show.

    Attributes:
        store: name of the store.
        ns, group, snapshot: as text, `prod/eu`, `host/web1`, `host/web1/2026-11-21T06:00:00Z`.
        archive, path: inside the snapshot.
        upid: a task.
        job: a configured job.
        digest: a chunk, 64 hex digits.
        filter: for the view's main list.
    """

    store: str = ""
    ns: str = ""
    group: str = ""
    snapshot: str = ""
    archive: str = ""
    path: str = ""
    upid: str = ""
    job: str = ""
    digest: str = ""
    filter: str = ""
