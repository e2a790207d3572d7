"""The name of the task that a command runs as."""

from typing import TYPE_CHECKING

from holdfast.upid import Upid

if TYPE_CHECKING:
    from holdfast.cli.console import Console


def upid_of(console: "Console", worker_type: str, worker_id: str) -> str:
    """The journal's name for this run, or a fresh one when the run is not in the journal."""
    if console.task is not None:
        return str(console.task.upid)
    return str(Upid.for_this_process(worker_type, worker_id))
