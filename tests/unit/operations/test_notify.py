"""Messages reach a real server in the form it expects; failures are one clear error."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.http_recorder import Recorder, recording

from holdfast.config.jobs import NotifierKind, NotifierSettings, NotifyOn
from holdfast.errors import BadRequest, HoldfastError, TemporaryFailure
from holdfast.operations import notify
from holdfast.operations.notify import Message, Ping

FAILED = Message(
    job="nightly",
    state="failed",
    host="web1",
    started=1_800_000_000,
    finished=1_800_000_090,
    before="ok",
    text='disk "sda" is full\nsecond line',
)


@pytest.fixture
def server() -> Iterator[Recorder]:
    with recording() as recorder:
        yield recorder


def notifier(kind: NotifierKind, url: str, **more: str) -> NotifierSettings:
    return NotifierSettings(name="n", kind=kind, on=NotifyOn.ALWAYS, url=url, **more)  # type: ignore[arg-type]


def test_a_webhook_gets_the_facts_as_json(server: Recorder) -> None:
    notify.send(notifier(NotifierKind.WEBHOOK, f"{server.url}/hook", token="t"), FAILED)

    ((path, headers, body),) = server.requests
    assert path == "/hook"
    assert headers["Authorization"] == "Bearer t"
    facts = json.loads(body)
    assert (facts["job"], facts["state"], facts["duration_s"]) == ("nightly", "failed", 90)
    assert facts["started"] == "2027-01-15T08:00:00Z"
    assert facts["text"] == FAILED.text


def test_a_template_stays_json_whatever_it_quotes(server: Recorder) -> None:
    template = '{"content": "$title: $text", "cost": "$$5", "x": "$unknown"}'
    notify.send(notifier(NotifierKind.WEBHOOK, server.url, template=template), FAILED)

    body = json.loads(server.requests[0][2])
    assert body["content"].endswith('disk "sda" is full\nsecond line')
    assert (body["cost"], body["x"]) == ("$5", "$unknown")


def test_ntfy_and_gotify_get_title_text_and_token(server: Recorder) -> None:
    notify.send(notifier(NotifierKind.NTFY, f"{server.url}/topic", token="a"), FAILED)
    notify.send(notifier(NotifierKind.GOTIFY, server.url, token="b"), FAILED)

    (path, headers, body), (gotify_path, gotify_headers, gotify_body) = server.requests
    assert (path, body) == ("/topic", FAILED.text.encode())
    assert headers["Title"] == "web1: backup job nightly: failed"
    assert (gotify_path, gotify_headers["X-Gotify-Key"]) == ("/message", "b")
    assert json.loads(gotify_body)["priority"] == 8


def test_a_monitor_is_pinged_at_start_success_and_failure(server: Recorder) -> None:
    for moment in Ping:
        notify.ping(f"{server.url}/uuid/", moment, "text")

    assert server.paths == ["/uuid/start", "/uuid", "/uuid/fail"]


@pytest.mark.parametrize(("answer", "is_transient"), [(500, True), (503, True), (404, False)])
def test_an_answer_says_whether_trying_again_can_help(
    server: Recorder, answer: int, is_transient: bool
) -> None:
    server.answer = answer
    with pytest.raises(HoldfastError, match=str(answer)) as caught:
        notify.send(notifier(NotifierKind.WEBHOOK, f"{server.url}/secret-path"), FAILED)

    assert caught.value.is_transient is is_transient
    assert "secret" not in str(caught.value)


def test_nobody_there_and_no_web_address_are_told_apart(server: Recorder) -> None:
    gone = server.url
    with pytest.raises(BadRequest, match="file"):
        notify.send(notifier(NotifierKind.WEBHOOK, "file:///etc/passwd"), FAILED)
    with recording() as other:
        gone = other.url
    with pytest.raises(TemporaryFailure, match="cannot be reached"):
        notify.send(notifier(NotifierKind.WEBHOOK, gone), FAILED)


def test_mail_goes_through_the_sendmail_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/args\ncat > {tmp_path}/mail\n')
    program.chmod(0o755)
    monkeypatch.setattr(notify, "_SENDMAIL", (str(program),))
    settings = NotifierSettings(
        name="m", kind=NotifierKind.MAIL, on=NotifyOn.ALWAYS, to=("ops@example.org\nBcc: x@y",)
    )

    notify.send(settings, FAILED)

    assert (tmp_path / "args").read_text() == "-t -i\n"
    mail = (tmp_path / "mail").read_text()
    assert "Subject: web1: backup job nightly: failed" in mail
    assert 'disk "sda" is full' in mail
    assert not any(line.startswith("Bcc:") for line in mail.splitlines())
    program.write_text("#!/bin/sh\necho queue is full >&2\nexit 75\n")
    with pytest.raises(TemporaryFailure, match="queue is full"):
        notify.send(settings, FAILED)


@pytest.mark.parametrize(
    ("on", "state", "before", "wanted"),
    [
        (NotifyOn.ALWAYS, "ok", "ok", True),
        (NotifyOn.FAILURE, "ok", "failed", False),
        (NotifyOn.FAILURE, "warning", "ok", True),
        (NotifyOn.CHANGE, "failed", "failed", False),
        (NotifyOn.CHANGE, "ok", "failed", True),
    ],
)
def test_only_wanted_ends_are_told(on: NotifyOn, state: str, before: str, wanted: bool) -> None:
    message = Message(job="j", state=state, host="h", before=before)
    settings = NotifierSettings(name="n", kind=NotifierKind.WEBHOOK, on=on, url="http://x")

    assert notify.is_wanted(settings, message) is wanted


def test_apprise_is_asked_for_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)  # as if it were not installed

    with pytest.raises(HoldfastError, match="apprise is not installed"):
        notify.send(notifier(NotifierKind.APPRISE, "json://127.0.0.1"), FAILED)


def test_apprise_sends_by_the_services_it_knows(server: Recorder) -> None:
    notify.send(notifier(NotifierKind.APPRISE, f"json{server.url.removeprefix('http')}/a"), FAILED)

    ((path, _headers, body),) = server.requests
    said = json.loads(body)
    assert path.rstrip("/") == "/a"
    assert said["title"] == FAILED.title
    assert said["message"].split() == FAILED.text.split()


def test_what_apprise_cannot_send_is_one_error(
    server: Recorder, capfd: pytest.CaptureFixture[str]
) -> None:
    server.answer = 500
    with pytest.raises(TemporaryFailure, match="could not send by 'n'"):
        notify.send(
            notifier(NotifierKind.APPRISE, f"json{server.url.removeprefix('http')}"), FAILED
        )
    with pytest.raises(BadRequest, match="does not know"):
        notify.send(notifier(NotifierKind.APPRISE, "nonsense://secret-token"), FAILED)

    assert capfd.readouterr() == ("", "")
