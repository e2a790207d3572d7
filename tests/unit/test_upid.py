"""Task names: recorded ones in both directions, escapes, and lies."""

from typing import Any

import pytest
from tests.harness import vectors

from holdfast import upid
from holdfast.errors import BadRequest
from holdfast.upid import Upid

RECORDED = vectors.load("datastore", "names")


@pytest.mark.parametrize("case", RECORDED["upids"], ids=lambda case: case["worker_type"])
def test_recorded_upid_is_read_and_written_back(case: dict[str, Any]) -> None:
    found = Upid.parse(case["upid"])

    assert str(found) == case["upid"]
    assert (found.node, found.pid, found.pstart) == (case["node"], case["pid"], case["pstart"])
    assert (found.task_id, found.start_s) == (case["task_id"], case["starttime"])
    assert (found.worker_type, found.auth_id) == (case["worker_type"], case["auth_id"])
    assert found.worker_id == (case["worker_id"] or "")
    assert found.log_directory == case["log_dir"]


@pytest.mark.parametrize("case", RECORDED["escape"], ids=lambda case: case["text"] or "empty")
def test_recorded_text_is_escaped_and_back(case: dict[str, str]) -> None:
    assert upid.escape(case["text"]) == case["escaped"]
    assert upid.unescape(case["escaped"]) == case["text"]


@pytest.mark.parametrize("text", ["\\x4", "\\y41", "\\", "\\xzz", "\\xff", "a\\x"])
def test_broken_escape_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        upid.unescape(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "UPID:",
        "UPID:a b:00000001:00000001:00000001:00000001:x:y:z:",
        "UPID:pbs:1:00000001:00000001:00000001:x:y:z:",
        "UPID:pbs:00000001:00000001:00000001:00000001:x:y:z",
        "UPID:pbs:00000001:00000001:00000001:00000001:x:\\xff:z:",
        "UPID:-pbs:00000001:00000001:00000001:00000001:x:y:z:",
        " UPID:pbs:00000001:00000001:00000001:00000001:x:y:z:",
        "UPID:pbs:00000001:00000001:00000001:00000001:x:y:z:\n",
    ],
)
def test_what_is_no_upid_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        Upid.parse(text)


def test_two_tasks_of_this_process_have_different_names_that_parse() -> None:
    first, second = (Upid.for_this_process("verify", "store:vm/1") for _ in range(2))

    assert str(first) != str(second)
    assert Upid.parse(str(first)) == first
