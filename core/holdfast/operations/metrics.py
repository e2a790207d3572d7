"""Figures for Prometheus: a text file for the node exporter, and an optional page on loopback.

    [metrics]
    file = "/var/lib/node_exporter/holdfast.prom"
    listen = "127.0.0.1:9817"

Source: Prometheus text exposition format 0.0.4.
"""

import ipaddress
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from holdfast.config.settings import Settings
from holdfast.config.toml_source import Section
from holdfast.host import files
from holdfast.jobs import job_state
from holdfast.jobs.journal import Journal
from holdfast.jobs.task_end import TaskState
from holdfast.operations.job_plan import overdue


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """The `[metrics]` table; empty means no such export."""

    file: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, section: Section) -> "MetricsSettings":
        """Read the table (BadRequest with file and line)."""
        listen = section.text("listen") or ""
        host, _colon, port = listen.rpartition(":")
        if listen:
            host = host.strip("[]")
            try:
                is_loopback = ipaddress.ip_address(host).is_loopback
            except ValueError:
                is_loopback = False
            if not is_loopback or not port.isdigit() or int(port) >= 1 << 16:
                section.complain(
                    "listen",
                    f"listen = {listen!r} is no port of this machine alone",
                    hint='like listen = "127.0.0.1:9817"',
                )
        settings = cls(section.text("file") or "", host, int(port or 0))
        section.refuse_unknown()
        return settings


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _family(name: str, about: str, kind: str, values: Iterable[tuple[str, float]]) -> list[str]:
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    return lines + [
        f"{name}{labels} {value:g}" if value % 1 else f"{name}{labels} {int(value)}"
        for labels, value in values
    ]


def text_of(settings: Settings, state_directory: str, now_s: float) -> str:
    """All figures of this host's jobs and tasks."""
    jobs = list(settings.jobs.values())
    states = [(job, job_state.read(state_directory, job.name)) for job in jobs]
    labelled = [(f'{{job="{_label(job.name)}"}}', job, state) for job, state in states]
    good = (TaskState.OK.value, TaskState.WARNING.value)
    running = Journal(state_directory).running()
    lines: list[str] = []
    for name, about, values in (
        (
            "last_start",
            "Start of the job's last run.",
            [(mark, s.started) for mark, _job, s in labelled],
        ),
        (
            "last_end",
            "End of the job's last run.",
            [(mark, s.finished) for mark, _job, s in labelled],
        ),
        (
            "last_good_end",
            "End of the last good run.",
            [(mark, s.ended_well) for mark, _job, s in labelled],
        ),
        (
            "last_verified",
            "Last good verification.",
            [(mark, s.verified) for mark, _job, s in labelled],
        ),
    ):
        lines += _family(f"holdfast_job_{name}_timestamp_seconds", about, "gauge", values)
    lines += _family(
        "holdfast_job_duration_seconds",
        "How long the last run took.",
        "gauge",
        [(mark, s.duration_s) for mark, _job, s in labelled],
    )
    lines += _family(
        "holdfast_job_ok",
        "1 when the last run was good.",
        "gauge",
        [(mark, s.state in good) for mark, _job, s in labelled],
    )
    lines += _family(
        "holdfast_job_failures",
        "Failed runs in a row.",
        "gauge",
        [(mark, s.failures) for mark, _job, s in labelled],
    )
    lines += _family(
        "holdfast_job_overdue",
        "1 when the job had no good end or verification for too long.",
        "gauge",
        [(mark, bool(overdue(j, s, now_s))) for mark, j, s in labelled],
    )
    lines += _family(
        "holdfast_tasks_running",
        "Tasks that run now.",
        "gauge",
        [("", sum(view.state is TaskState.RUNNING for view in running))],
    )
    return "\n".join(lines) + "\n"


def write_file(path: str, text: str) -> None:
    """Replace the text file in one step (HoldfastError)."""
    with files.explained(f"writing the figures to {path}"):
        files.replace_file(path, [text.encode()])


class MetricsServer:
    """`GET /metrics` on one loopback port, in a thread."""

    def __init__(self, host: str, port: int, text: Callable[[], str]) -> None:
        """Listen (OSError); port 0 takes any free one."""

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                if self.path.partition("?")[0] != "/metrics":
                    self.send_error(404)
                    return
                body = text().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                del format, args

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
