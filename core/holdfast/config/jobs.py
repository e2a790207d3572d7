"""The `[jobs.NAME]` and `[notifications.NAME]` tables.

[jobs.nightly]
kind = "backup"                       # backup, verify, gc, prune or command
store = "local"
sources = ["etc.pxar:/etc", "/srv"]
schedule = "mon..fri 22:30"
random-delay = "10m"
keep-daily = 7
verify = "last"
notify = ["ops"]
max-age = "36h"
[jobs.nightly.hooks]
before = "/usr/local/bin/dump-database"

[notifications.ops]
kind = "webhook"
url = "https://example.org/hook"
on = "failure"
"""

import os
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from holdfast.config.stores import Keep, parse_keep
from holdfast.config.toml_source import Section
from holdfast.errors import BadRequest
from holdfast.ids import is_safe_id
from holdfast.jobs.calendar import CalendarEvent
from holdfast.jobs.retry import RetryPolicy
from holdfast.units import DAY, HOUR, MINUTE

_DURATION: Final = re.compile(r"(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m(?:in)?)?\s*(?:(\d+)s)?")
_DURATION_S_MAX: Final = 3650 * DAY


class JobKind(StrEnum):
    """What a job does."""

    BACKUP = "backup"
    VERIFY = "verify"
    GC = "gc"
    PRUNE = "prune"
    COMMAND = "command"


class VerifyPolicy(StrEnum):
    """What a backup job verifies after the backup."""

    NEVER = "never"
    LAST = "last"
    GROUP = "group"


class NotifyOn(StrEnum):
    """Which ends of a job are worth a message."""

    ALWAYS = "always"
    FAILURE = "failure"
    CHANGE = "change"


class NotifierKind(StrEnum):
    """The way a message goes."""

    MAIL = "mail"
    WEBHOOK = "webhook"
    NTFY = "ntfy"
    GOTIFY = "gotify"
    APPRISE = "apprise"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifierSettings:
    """One `[notifications.NAME]` table."""

    name: str
    kind: NotifierKind
    on: NotifyOn
    url: str = ""
    to: tuple[str, ...] = ()
    sender: str = ""
    token: str = ""
    template: str = ""

    @classmethod
    def parse(cls, section: Section) -> "NotifierSettings":
        """Read one table (BadRequest with file and line)."""
        if not section.has("kind"):
            section.complain("kind", "a notification needs a kind", hint='like kind = "mail"')
        settings = cls(
            name=section.name,
            kind=section.choice("kind", NotifierKind, default=NotifierKind.MAIL),
            on=section.choice("on", NotifyOn, default=NotifyOn.FAILURE),
            url=section.text("url") or "",
            to=section.texts("to"),
            sender=section.text("from") or "",
            token=section.text("token") or "",
            template=section.text("template") or "",
        )
        if settings.kind is NotifierKind.MAIL and not settings.to:
            section.complain(
                "to", "mail needs somebody to go to", hint='like to = ["ops@example.org"]'
            )
        if settings.kind is not NotifierKind.MAIL and not settings.url:
            section.complain("url", f"{settings.kind} needs a url")
        section.refuse_unknown()
        return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Programs around a job; each is a list of words, empty for none."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    failure: tuple[str, ...] = ()
    backup: tuple[str, ...] = ()
    directory: str = ""
    timeout_s: int = HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """One `[jobs.NAME]` table, checked.

    Attributes:
        command: for kind "command", the words after `holdfast`.
        options: further words for the job's command.
        after: jobs whose good end starts this one.
        on_change: start when something below the sources changes.
        quiet_s: how long nothing may change before on_change starts the job.
        distance_s_min: at least so long between two starts by on_change.
        age_s_max: without a good end for so long, the job is a finding.
        verify_age_s_max: the same for a good verification.
    """

    name: str
    kind: JobKind
    store: str | None = None
    ns: str | None = None
    enabled: bool = True
    sources: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    backup_type: str = "host"
    backup_id: str | None = None
    group: str | None = None
    command: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    keyfile: str | None = None
    keep: Keep = field(default_factory=Keep)
    verify: VerifyPolicy = VerifyPolicy.NEVER
    schedule: tuple[CalendarEvent, ...] = ()
    random_delay_s: int = 0
    catch_up: bool = True
    after: tuple[str, ...] = ()
    on_change: bool = False
    quiet_s: int = 10
    distance_s_min: int = 5 * MINUTE
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    hooks: Hooks = field(default_factory=Hooks)
    notify: tuple[str, ...] = ()
    ping: str = ""
    age_s_max: int | None = None
    verify_age_s_max: int | None = None

    @classmethod
    def parse(cls, section: Section) -> "JobSettings":
        """Read one table (BadRequest with file and line)."""
        if not is_safe_id(section.name):
            section.complain("", f"{section.name!r} cannot name a job: use letters, digits, . _ -")
        if not section.has("kind"):
            section.complain(
                "kind", f"job {section.name!r} has no kind", hint='add a line like kind = "backup"'
            )
        job = cls(
            name=section.name,
            kind=section.choice("kind", JobKind, default=JobKind.BACKUP),
            store=section.text("store"),
            ns=section.text("ns"),
            enabled=section.flag("enabled", default=True),
            sources=section.texts("sources"),
            excludes=section.texts("exclude"),
            backup_type=section.text("type") or "host",
            backup_id=section.text("id"),
            group=section.text("group"),
            command=section.texts("command"),
            options=section.texts("options"),
            keyfile=section.text("keyfile"),
            keep=parse_keep(section),
            verify=section.choice("verify", VerifyPolicy, default=VerifyPolicy.NEVER),
            schedule=tuple(_event(section, text) for text in section.texts("schedule")),
            random_delay_s=duration(section, "random-delay") or 0,
            catch_up=section.flag("catch-up", default=True),
            after=section.texts("after"),
            on_change=section.flag("on-change", default=False),
            quiet_s=_or(duration(section, "quiet"), 10),
            distance_s_min=_or(duration(section, "distance"), 5 * MINUTE),
            retry=_retry(section),
            hooks=_hooks(section.table("hooks")),
            notify=section.texts("notify"),
            ping=section.text("ping") or "",
            age_s_max=duration(section, "max-age"),
            verify_age_s_max=duration(section, "max-verify-age"),
        )
        section.refuse_unknown()
        _check(section, job)
        return job


def parse_jobs(
    root: Section, stores: set[str]
) -> tuple[dict[str, JobSettings], dict[str, NotifierSettings]]:
    """Both tables, and that what they name exists (BadRequest with file and line)."""
    notifiers = {
        section.name: NotifierSettings.parse(section) for section in root.tables("notifications")
    }
    jobs = {section.name: JobSettings.parse(section) for section in root.tables("jobs")}
    for job in jobs.values():
        where = ("jobs", job.name)
        for key, names, known in (
            ("notify", job.notify, set(notifiers)),
            ("after", job.after, set(jobs) - {job.name}),
            ("store", (job.store,) if job.store and "/" not in job.store else (), stores),
        ):
            for name in names:
                if name not in known:
                    root.source.complain(
                        (*where, key),
                        f"{key} names {name!r}, which is not configured",
                        hint=f"known are: {', '.join(sorted(known)) or 'none'}",
                    )
    _refuse_circles(root, jobs)
    return jobs, notifiers


def _refuse_circles(root: Section, jobs: dict[str, JobSettings]) -> None:
    for start, job in jobs.items():
        reached: set[str] = set()
        waiting = list(job.after)
        while waiting:
            name = waiting.pop()
            if name == start:
                root.source.complain(("jobs", start, "after"), f"{start!r} comes after itself")
            if name not in reached:
                reached.add(name)
                waiting += jobs[name].after


def _check(section: Section, job: JobSettings) -> None:
    if job.kind is JobKind.BACKUP and not job.sources:
        section.complain(
            "sources", f"job {job.name!r} has nothing to back up", hint='add sources = ["/etc"]'
        )
    if job.kind is JobKind.COMMAND and not job.command:
        section.complain(
            "command", f"job {job.name!r} has no command", hint='like command = ["wal", "sync"]'
        )
    if job.kind is JobKind.PRUNE and job.keep.is_empty:
        section.complain(
            "keep-last", f"job {job.name!r} says nothing to keep", hint="add keep-daily = 7"
        )
    if job.on_change and not job.sources:
        section.complain("on-change", "on-change needs sources to watch")


def parse_duration(text: str) -> int:
    """Seconds of `36h`, `1d 12h`, `90m`, `30s` or a plain number of seconds (BadRequest)."""
    stripped = text.strip()
    match = _DURATION.fullmatch(stripped)
    if stripped.isascii() and stripped.isdigit():
        seconds = int(stripped[:12])
    elif match is not None and stripped:
        days, hours, minutes, rest = (int(part[:9]) if part else 0 for part in match.groups())
        seconds = days * DAY + hours * HOUR + minutes * MINUTE + rest
    else:
        raise BadRequest(f"{text!r} is no span of time", hint="write it like 36h, 90m or 30s")
    if seconds > _DURATION_S_MAX:
        raise BadRequest(f"{text!r} is longer than ten years")
    return seconds


def duration(section: Section, key: str) -> int | None:
    """Seconds, or None when the key is missing (BadRequest with file and line)."""
    if isinstance(section.values.get(key), int):
        return section.integer(key, high=_DURATION_S_MAX)
    text = section.text(key)
    if text is None:
        return None
    try:
        return parse_duration(text)
    except BadRequest as error:
        section.complain(key, error.message, hint=error.hint)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _event(section: Section, text: str) -> CalendarEvent:
    try:
        return CalendarEvent.parse(text)
    except BadRequest as error:
        section.complain("schedule", error.message, hint=error.hint)


def _retry(section: Section) -> RetryPolicy:
    endless = section.values.get("retries") == "endless"
    retries = None if endless and section.has("retries") else _or(section.integer("retries"), 3)
    first = _or(duration(section, "retry-pause"), 30)
    return RetryPolicy(
        retries_max=retries,
        first_pause_s=first,
        pause_s_max=max(first, _or(duration(section, "retry-pause-max"), 30 * MINUTE)),
    )


def _hooks(section: Section) -> Hooks:
    words = {}
    for key in ("before", "after", "failure", "backup"):
        words[key] = section.texts(key)
        if words[key] and not os.path.isabs(words[key][0]):
            section.complain(key, f"the hook {words[key][0]!r} is no absolute path")
    directory = section.text("directory") or ""
    if words["backup"] and not directory:
        section.complain(
            "backup",
            "a backup script needs the directory to carry away",
            hint='add directory = "/srv/stage"',
        )
    hooks = Hooks(directory=directory, timeout_s=_or(duration(section, "timeout"), HOUR), **words)
    section.refuse_unknown()
    return hooks
