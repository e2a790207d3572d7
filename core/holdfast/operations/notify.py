"""Telling people and monitors how a job ended: mail, webhooks, push services, pings.

Nothing here may stop a job: a message that cannot be sent is one HoldfastError for the log.
"""

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import EmailMessage
from enum import StrEnum
from string import Template
from typing import Final
from urllib.parse import urlsplit

from holdfast.config.jobs import NotifierKind, NotifierSettings, NotifyOn
from holdfast.errors import BadRequest, HoldfastError, TemporaryFailure
from holdfast.ids import epoch_to_name
from holdfast.jobs.task_end import one_line

_TIMEOUT_S: Final = 15.0
_SENDMAIL: Final = ("/usr/sbin/sendmail", "/usr/lib/sendmail")
_REFUSED: Final = range(400, 500)
_TEXT_MAX: Final = 16_000


class Ping(StrEnum):
    """What a healthchecks-style monitor is told; the value is added to its address."""

    START = "/start"
    SUCCESS = ""
    FAIL = "/fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """How one run of a job ended.

    Attributes:
        state: ok, warning, failed, stopped, or missing (dead-man rule).
        before: the state of the run before, empty for none.
        text: what happened, several lines.
    """

    job: str
    state: str
    host: str
    started: int = 0
    finished: int = 0
    before: str = ""
    upid: str = ""
    text: str = ""

    @property
    def is_good(self) -> bool:
        return self.state == "ok"

    @property
    def title(self) -> str:
        return one_line(f"{self.host}: backup job {self.job}: {self.state}")

    def facts(self) -> dict[str, str | int]:
        """What a webhook gets as JSON, and what a template may name."""
        return {
            "title": self.title,
            "job": self.job,
            "state": self.state,
            "host": self.host,
            "started": epoch_to_name(self.started) if self.started else "",
            "finished": epoch_to_name(self.finished) if self.finished else "",
            "duration_s": max(0, self.finished - self.started),
            "upid": self.upid,
            "text": self.text[:_TEXT_MAX],
        }


def is_wanted(notifier: NotifierSettings, message: Message) -> bool:
    """Whether this notifier cares for this message."""
    if notifier.on is NotifyOn.ALWAYS:
        return True
    if notifier.on is NotifyOn.CHANGE:
        return message.state != message.before
    return not message.is_good


def send(notifier: NotifierSettings, message: Message) -> None:
    """Send one message.

    Raises:
        TemporaryFailure: the other side cannot be reached, or has trouble.
        HoldfastError: it refused, or the way is not set up on this host.
    """
    match notifier.kind:
        case NotifierKind.MAIL:
            _mail(notifier, message)
        case NotifierKind.WEBHOOK:
            _webhook(notifier, message)
        case NotifierKind.NTFY:
            headers = {
                "Title": message.title,
                "Tags": "white_check_mark" if message.is_good else "x",
            }
            if notifier.token:
                headers["Authorization"] = f"Bearer {notifier.token}"
            _post(notifier.url, (message.text or message.title).encode()[:4000], headers)
        case NotifierKind.GOTIFY:
            _gotify(notifier, message)
        case NotifierKind.APPRISE:
            _apprise(notifier, message)


def ping(url: str, moment: Ping, text: str = "") -> None:
    """Tell a healthchecks-style monitor (errors as in send)."""
    _post(url.rstrip("/") + moment.value, text.encode()[:_TEXT_MAX], {})


def _mail(notifier: NotifierSettings, message: Message) -> None:
    program = next((path for path in _SENDMAIL if shutil.which(path)), shutil.which("sendmail"))
    if program is None:
        raise HoldfastError("this host has no sendmail to send mail with")
    mail = EmailMessage()
    mail["Subject"] = message.title
    mail["To"] = ", ".join(one_line(address) for address in notifier.to)
    if notifier.sender:
        mail["From"] = one_line(notifier.sender)
    mail["Auto-Submitted"] = "auto-generated"
    facts = [f"{name}: {value}" for name, value in message.facts().items() if name != "text"]
    mail.set_content("\n".join([*facts, "", message.text[:_TEXT_MAX]]))
    try:
        done = subprocess.run(
            [program, "-t", "-i"],
            input=mail.as_bytes(),
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TemporaryFailure(f"sendmail does not work: {error}") from error
    if done.returncode:
        raise TemporaryFailure(
            f"sendmail failed: {one_line(done.stderr.decode('utf-8', 'replace'))}"
        )


def _webhook(notifier: NotifierSettings, message: Message) -> None:
    facts = message.facts()
    if notifier.template:
        escaped = {name: json.dumps(str(value))[1:-1] for name, value in facts.items()}
        body = Template(notifier.template).safe_substitute(escaped)
    else:
        body = json.dumps(facts)
    headers = {"Content-Type": "application/json"}
    if notifier.token:
        headers["Authorization"] = f"Bearer {notifier.token}"
    _post(notifier.url, body.encode(), headers)


def _gotify(notifier: NotifierSettings, message: Message) -> None:
    body = {
        "title": message.title,
        "message": message.text or message.title,
        "priority": 2 if message.is_good else 8,
    }
    headers = {"Content-Type": "application/json", "X-Gotify-Key": notifier.token}
    _post(notifier.url.rstrip("/") + "/message", json.dumps(body).encode(), headers)


def _apprise(notifier: NotifierSettings, message: Message) -> None:
    try:
        import apprise
    except ImportError as error:
        raise HoldfastError(
            "apprise is not installed", hint="install holdfast with the extra `notify`"
        ) from error
    sender = apprise.Apprise()
    if not sender.add(notifier.url):
        raise BadRequest(f"apprise does not know what to do with the url of {notifier.name!r}")
    if not sender.notify(title=message.title, body=message.text or message.title):
        raise TemporaryFailure(f"apprise could not send by {notifier.name!r}")


def _post(url: str, body: bytes, headers: dict[str, str]) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise BadRequest(f"{parts.scheme!r} is no way to send a message; use http or https")
    where = parts.hostname or "?"  # the rest of an address may be a secret
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            answer.read(1)
    except urllib.error.HTTPError as error:
        error.close()
        refusal = HoldfastError if error.code in _REFUSED else TemporaryFailure
        raise refusal(f"{where} answered {error.code}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise TemporaryFailure(f"{where} cannot be reached: {one_line(str(reason))}") from error
