"""How to do again what a task did: the words of a command, as far as they can be known; pure."""

from holdfast_tui.model.jobs import JobBoard
from holdfast_tui.model.request import How
from holdfast_tui.model.tasks import Task

_SNAPSHOT_PARTS = 2


def words_again(task: Task, jobs: JobBoard) -> tuple[tuple[str, ...], How, str] | None:
    """Words, how they are run, and a sentence about it; None when nobody can know them.

    A backup's sources are not in its name: only a configured job with the same target knows them.
    """
    if task.kind.endswith(" job"):
        return _job(task.target or task.store)
    if task.kind == "backup":
        for job in jobs.jobs:
            settings = job.settings
            named = f"{settings.backup_type}/{settings.backup_id}" if settings.backup_id else None
            if settings.kind.value == "backup" and named is not None and named == task.target:
                return _job(job.name)
        return None
    ns, target = _split(task.target)
    inside = ("--ns", ns) if ns else ()
    if task.kind == "verify":
        return (
            (*inside, "verify", *((target,) if target else ())),
            How.DETACHED,
            "Reads and checks.",
        )
    if task.kind == "gc":
        return ("gc",), How.DETACHED, "Removes chunks that no snapshot needs."
    return None


def _job(name: str) -> tuple[tuple[str, ...], How, str]:
    return ("job", "run", name, "--detach"), How.SHORT, f"Runs the configured job {name}."


def _split(target: str) -> tuple[str, str]:
    """Namespace and `TYPE/ID[/TIME]` of `prod/eu/host/web1/...`."""
    parts = target.split("/") if target else []
    for at, part in enumerate(parts):
        if part in ("host", "vm", "ct") and at + 1 < len(parts):
            rest = parts[at:]
            if len(rest) >= _SNAPSHOT_PARTS:
                return "/".join(parts[:at]), "/".join(rest)
    return "", target
