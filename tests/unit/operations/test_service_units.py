"""Unit files, and figures for Prometheus."""

import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

from holdfast.config import toml_source
from holdfast.config.settings import Settings
from holdfast.errors import BadRequest
from holdfast.jobs import job_state
from holdfast.jobs.calendar import CalendarEvent
from holdfast.jobs.job_state import JobState
from holdfast.operations import metrics
from holdfast.operations.metrics import MetricsServer, MetricsSettings
from holdfast.operations.service_units import (
    exec_line,
    on_calendar,
    scheduler_units,
    timer_units,
)

SETTINGS = Settings.parse(
    toml_source.parse(
        "c",
        b'[jobs.nightly]\nkind = "gc"\nschedule = "mon..fri 2:30 UTC"\nrandom-delay = 60\n'
        b'max-age = "1h"\n[jobs.hand]\nkind = "gc"\n',
    )
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("daily", "*-*-* 00:00:00"),
        ("mon..wed 22:30 UTC", "Mon,Tue,Wed *-*-* 22:30:00 UTC"),
        ("*:0/20", "*-*-* *:00,20,40:00"),
        ("*-*-1,15 03:00", "*-*-01,15 03:00:00"),
    ],
)
def test_events_are_written_out_for_systemd(text: str, expected: str) -> None:
    written = on_calendar(CalendarEvent.parse(text))

    assert written == expected
    if shutil.which("systemd-analyze"):
        subprocess.run(["systemd-analyze", "calendar", written], check=True, capture_output=True)


def test_the_scheduler_unit_lets_running_jobs_live() -> None:
    (unit,) = scheduler_units(["/usr/bin/holdfast", "--config", "/etc/a b%.toml"], for_user=False)

    assert 'ExecStart=/usr/bin/holdfast --config "/etc/a b%%.toml" scheduler\n' in unit.text
    assert "KillMode=process\n" in unit.text
    assert "Type=notify\n" in unit.text
    assert "WantedBy=multi-user.target" in unit.text


def test_there_is_a_timer_for_each_job_with_a_schedule() -> None:
    service, timer = timer_units(["holdfast"], list(SETTINGS.jobs.values()), for_user=True)

    assert service.name == "holdfast-job@.service"
    assert timer.name == "holdfast-job-nightly.timer"
    assert "OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 02:30:00 UTC\n" in timer.text
    assert "RandomizedDelaySec=60\nPersistent=true\n" in timer.text
    assert exec_line(['a"b', "$x"]) == '"a\\"b" "$$x"'


def test_figures_name_each_job_and_what_is_overdue(tmp_path: Path) -> None:
    job_state.write(
        str(tmp_path), "nightly", JobState(started=50, finished=100, ended_well=100, state="ok")
    )

    text = metrics.text_of(SETTINGS, str(tmp_path), now_s=10_000)

    assert 'holdfast_job_last_good_end_timestamp_seconds{job="nightly"} 100\n' in text
    assert 'holdfast_job_ok{job="nightly"} 1\n' in text
    assert 'holdfast_job_overdue{job="nightly"} 1\n' in text
    assert 'holdfast_job_overdue{job="hand"} 0\n' in text
    assert "holdfast_tasks_running 0\n" in text


def test_the_page_is_served_on_loopback_only() -> None:
    server = MetricsServer("127.0.0.1", 0, lambda: "x 1\n")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as page:
            assert page.read() == b"x 1\n"
    finally:
        server.close()
    for listen in ("0.0.0.0:9817", "example.org:1", "127.0.0.1:99999", "9817"):
        section = toml_source.parse("c", f'[metrics]\nlisten = "{listen}"\n'.encode())
        with pytest.raises(BadRequest, match="line 2"):
            MetricsSettings.parse(section.root.table("metrics"))
