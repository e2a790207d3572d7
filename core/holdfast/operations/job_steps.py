"""From a configured job to the commands it runs, as words of the command line.

A job is nothing a person could not type: what a job does can be repeated and looked into by hand.
"""

from dataclasses import dataclass

from holdfast.config.jobs import JobKind, JobSettings, VerifyPolicy
from holdfast.config.stores import KEEP_NAMES, Keep
from holdfast.host import process


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a job. `verifies`: its good end means that all was read and found well."""

    words: tuple[str, ...]
    verifies: bool = False


def steps_of(job: JobSettings) -> list[Step]:
    """The commands of `job`, in order."""
    match job.kind:
        case JobKind.BACKUP:
            return _backup(job)
        case JobKind.VERIFY:
            target = (job.group,) if job.group else ()
            return [Step(("verify", *_where(job), *target, *job.options), verifies=True)]
        case JobKind.GC:
            return [Step(("gc", *_where(job), "--yes", *job.options))]
        case JobKind.PRUNE:
            return [_prune(job, job.group)]
        case JobKind.COMMAND:
            return [Step((*job.command, *_where(job), *job.options))]


def group_of(job: JobSettings) -> str:
    """The group a backup job writes, TYPE/ID."""
    return f"{job.backup_type}/{job.backup_id or process.node_name()}"


def _backup(job: JobSettings) -> list[Step]:
    group = group_of(job)
    words = ["backup", *_where(job), "--type", job.backup_type, "--id", group.partition("/")[2]]
    if job.keyfile:
        words += ["--keyfile", job.keyfile]
    for pattern in job.excludes:
        words += ["--exclude", pattern]
    steps = [Step((*words, *job.options, *job.sources))]
    if job.verify is not VerifyPolicy.NEVER:
        target = f"{group}/latest" if job.verify is VerifyPolicy.LAST else group
        key = ("--keyfile", job.keyfile) if job.keyfile else ()
        steps.append(Step(("verify", *_where(job), *key, target), verifies=True))
    if not job.keep.is_empty:
        steps.append(_prune(job, group))
    return steps


def _prune(job: JobSettings, group: str | None) -> Step:
    target = (group,) if group else ()
    options = job.options if job.kind is JobKind.PRUNE else ()
    return Step(("prune", *_where(job), *_keep(job.keep), "--yes", *options, *target))


def _keep(keep: Keep) -> list[str]:
    words = []
    for name in KEEP_NAMES:
        if (count := getattr(keep, name)) is not None:
            words += [f"--keep-{name}", str(count)]
    return words


def _where(job: JobSettings) -> list[str]:
    words = ["--store", job.store] if job.store else []
    return words + (["--ns", job.ns] if job.ns else [])
