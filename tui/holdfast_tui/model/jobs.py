"""Configured jobs as the screens show them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast.config.jobs import JobSettings
from holdfast.jobs.job_state import JobState
from holdfast_tui.render.look import Mark

_MARKS = {
    "ok": Mark.OK,
    "warning": Mark.WARN,
    "failed": Mark.BAD,
    "stopped": Mark.STOP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job of the configuration, what is remembered of it, and when it runs next.

    Attributes:
        upcoming: the next starts by its schedule, seconds since 1970.
        is_running: a run is under way.
        late: findings of the dead-man rule and missed runs, one sentence each.
    """

    settings: JobSettings
    state: JobState
    upcoming: tuple[int, ...] = ()
    is_running: bool = False
    is_owed: bool = False
    late: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def mark(self) -> Mark:
        """Of the last run."""
        if self.is_running:
            return Mark.RUN
        return _MARKS.get(self.state.state, Mark.NONE)

    @property
    def when(self) -> str:
        """Its schedule as it is written."""
        parts = [event.text for event in self.settings.schedule]
        parts += [f"after {name}" for name in self.settings.after]
        parts += ["on change"] if self.settings.on_change else []
        return ", ".join(parts) or "by hand"

    @property
    def target(self) -> str:
        """What it works on."""
        settings = self.settings
        store = settings.store or "store"
        if settings.sources:
            return f"{settings.sources[0]}{' ..' if len(settings.sources) > 1 else ''} > {store}"
        return " ".join(part for part in (store, settings.ns, settings.group) if part)

    @property
    def facts(self) -> Mapping[str, str]:
        return {
            "name": self.name,
            "kind": self.settings.kind.value,
            "store": self.settings.store or "",
            "target": self.target,
            "state": self.state.state or "never",
            "when": self.when,
            "on": "on" if self.settings.enabled else "off",
        }


@dataclass(frozen=True, slots=True)
class JobBoard:
    """All jobs at one moment; `error` says why the configuration cannot be read."""

    jobs: tuple[Job, ...] = ()
    read_at: float = 0
    error: str = ""
    hint: str = ""
    by_name: dict[str, Job] = field(default_factory=dict)
