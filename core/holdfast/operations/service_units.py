"""systemd units for the scheduler, or for one timer per job.

A backup reads everything and its hooks may do anything, so the service keeps the rights it is
started with; what it surely does not need (kernel settings, modules, clocks, realtime) is taken
away. KillMode=process lets running jobs go on when the scheduler is restarted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from holdfast.config.jobs import JobSettings
from holdfast.jobs.calendar import CalendarEvent

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HARDENING: Final = """\
NoNewPrivileges=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictRealtime=yes
RestrictNamespaces=yes
LockPersonality=yes
SystemCallArchitectures=native
UMask=0022
OOMPolicy=continue
"""
_PRIORITY: Final = """\
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """One file of a unit directory."""

    name: str
    text: str


def scheduler_units(command: list[str], *, for_user: bool) -> list[Unit]:
    """One service that starts all jobs."""
    target = "default.target" if for_user else "multi-user.target"
    text = f"""\
[Unit]
Description=Holdfast: runs configured backup jobs
Documentation=man:holdfast(1)
After=network-online.target local-fs.target time-sync.target
Wants=network-online.target

[Service]
Type=notify
ExecStart={exec_line([*command, "scheduler"])}
Restart=on-failure
RestartSec=30
SuccessExitStatus=130 143
WatchdogSec=180
KillMode=process
{_PRIORITY}{"" if for_user else _HARDENING}
[Install]
WantedBy={target}
"""
    return [Unit("holdfast.service", text)]


def timer_units(command: list[str], jobs: list[JobSettings], *, for_user: bool) -> Iterator[Unit]:
    """A template service, and a timer for each job that has a schedule."""
    yield Unit(
        "holdfast-job@.service",
        f"""\
[Unit]
Description=Holdfast: backup job %i
After=network-online.target local-fs.target
Wants=network-online.target

[Service]
Type=oneshot
ExecStart={exec_line([*command, "job", "run"])} %i
SuccessExitStatus=3 130 143
TimeoutStartSec=infinity
{_PRIORITY}{"" if for_user else _HARDENING}""",
    )
    for job in jobs:
        if not job.schedule or not job.enabled:
            continue
        times = "".join(f"OnCalendar={on_calendar(event)}\n" for event in job.schedule)
        yield Unit(
            f"holdfast-job-{job.name}.timer",
            f"""\
[Unit]
Description=Holdfast: starts backup job {job.name}

[Timer]
{times}RandomizedDelaySec={job.random_delay_s}
Persistent={"true" if job.catch_up else "false"}
Unit=holdfast-job@{job.name}.service

[Install]
WantedBy=timers.target
""",
        )


def on_calendar(event: CalendarEvent) -> str:
    """The event in systemd's words, every restricted field written out in full."""
    days = (
        ""
        if len(event.weekdays) == len(_DAYS)
        else ",".join(_DAYS[day] for day in sorted(event.weekdays))
    )
    date = "-".join(
        "*" if part.is_open else ",".join(f"{value:02}" for value in part.values)
        for part in (event.years, event.months, event.days)
    )
    time = ":".join(
        "*" if part.is_open else ",".join(f"{value:02}" for value in part.values)
        for part in (event.hours, event.minutes, event.seconds)
    )
    return " ".join(part for part in (days, date, time, "UTC" if event.is_utc else "") if part)


def exec_line(words: list[str]) -> str:
    """A command for ExecStart=, quoted by systemd's rules."""
    quoted = []
    for word in words:
        escaped = (
            word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
        )
        quoted.append(f'"{escaped}"' if escaped != word or " " in word else word)
    return " ".join(quoted)
