"""The tables of jobs and notifications: read with care, mistakes reported with their line."""

import pytest

from holdfast.config import toml_source
from holdfast.config.jobs import JobKind, NotifyOn, VerifyPolicy, parse_duration
from holdfast.config.settings import Settings
from holdfast.errors import BadRequest, NotFound
from holdfast.units import HOUR, MINUTE

STORE = '[stores.local]\npath = "/srv/backup"\n'
GOOD = (
    STORE
    + """
[jobs.nightly]
kind = "backup"
store = "local"
ns = "prod"
sources = ["etc.pxar:/etc", "/srv"]
exclude = "*.tmp"
schedule = ["mon..fri 22:30", "sat 12:00 UTC"]
random-delay = "10m"
retries = "endless"
retry-pause = "1m"
keep-daily = 7
verify = "last"
notify = ["ops"]
max-age = "36h"
[jobs.nightly.hooks]
before = ["/usr/local/bin/dump", "--all"]
timeout = 600

[jobs.cleaning]
kind = "gc"
after = ["nightly"]

[notifications.ops]
kind = "webhook"
url = "https://example.org/hook"
on = "change"
"""
)


def parse(text: str) -> Settings:
    return Settings.parse(toml_source.parse("c.toml", text.encode()))


def test_a_job_is_read_with_everything_it_says() -> None:
    settings = parse(GOOD)
    job = settings.job("nightly")

    assert job.kind is JobKind.BACKUP
    assert job.excludes == ("*.tmp",)
    assert [event.text for event in job.schedule] == ["mon..fri 22:30", "sat 12:00 UTC"]
    assert job.random_delay_s == 600
    assert job.retry.retries_max is None
    assert job.retry.first_pause_s == MINUTE
    assert job.keep.daily == 7
    assert job.verify is VerifyPolicy.LAST
    assert job.hooks.before == ("/usr/local/bin/dump", "--all")
    assert job.hooks.timeout_s == 600
    assert job.age_s_max == 36 * HOUR
    assert settings.job("cleaning").after == ("nightly",)
    assert settings.notifiers["ops"].on is NotifyOn.CHANGE


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[jobs.a]\nkind = "gc"\nscedule = "daily"\n', 3, "means nothing"),
        ('[jobs.a]\nkind = "gc"\nschedule = "dayly"\n', 3, "no schedule"),
        ('[jobs.a]\nkind = "bakcup"\n', 2, "none of"),
        ('[jobs.a]\nsources = ["/etc"]\n', 1, "no kind"),
        ('[jobs.a]\nkind = "backup"\n', 1, "nothing to back up"),
        ('[jobs.a]\nkind = "gc"\nmax-age = "soon"\n', 3, "no span"),
        ('[jobs.a]\nkind = "gc"\nnotify = ["ops"]\n', 3, "not configured"),
        ('[jobs.a]\nkind = "gc"\nstore = "lokal"\n', 3, "not configured"),
        ('[jobs.a]\nkind = "gc"\nafter = ["a"]\n', 3, "not configured"),
        ('[jobs.a]\nkind = "prune"\n', 1, "nothing to keep"),
        ('[jobs.a]\nkind = "command"\n', 1, "no command"),
        ('[jobs.a]\nkind = "gc"\nretries = -1\n', 3, "whole number"),
        ('[jobs.a]\nkind = "gc"\n[jobs.a.hooks]\nbefore = "dump"\n', 4, "absolute"),
        ('[jobs.a]\nkind = "gc"\n[jobs.a.hooks]\nbackup = "/b"\n', 4, "directory"),
        ('[jobs."a b"]\nkind = "gc"\n', 1, "cannot name a job"),
        ('[notifications.n]\nkind = "mail"\n', 1, "somebody to go to"),
        ('[notifications.n]\nkind = "ntfy"\n', 1, "needs a url"),
        (
            '[jobs.a]\nkind = "gc"\nafter = "b"\n[jobs.b]\nkind = "gc"\nafter = "a"\n',
            3,
            "after itself",
        ),
    ],
)
def test_mistakes_are_told_with_their_line(text: str, line: int, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as caught:
        parse(text)

    assert caught.value.message.startswith(f"c.toml, line {line}: ")


def test_a_job_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound, match="weekly") as caught:
        parse(GOOD).job("weekly")
    assert "nightly, cleaning" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("36h", 129600), ("1d 12h", 129600), ("90m", 5400), ("30s", 30), ("45", 45), ("5min", 300)],
)
def test_spans_of_time_are_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-5m", "1w", "99999d", "1.5h"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_duration(text)
