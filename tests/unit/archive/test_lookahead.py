from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import pytest
from tests.harness.vectors import load

from holdfast.archive.lookahead import BorderRule, LookAhead, ReusedChunk

SCENARIOS = load("pxar", "metadata_mode")["scenarios"]


class ListIndex:
    def __init__(self, chunks: list[tuple[int, bytes]]) -> None:
        self.ends = [end for end, _digest in chunks]
        self._digests = [digest for _end, digest in chunks]
        self.chunk_count = len(chunks)
        self.size_bytes = self.ends[-1]

    def find(self, offset: int, /) -> int:
        return bisect_right(self.ends, offset)

    def range_at(self, number: int, /) -> tuple[int, int]:
        return (self.ends[number - 1] if number else 0), self.ends[number]

    def digest_at(self, number: int, /) -> bytes:
        return self._digests[number]


class Recorder:
    """Plays the encoder and its two streams: a start marker, then what it is told."""

    def __init__(self) -> None:
        self.position = 16
        self.raw_bytes = 32
        self.suggested: list[int] = []
        self.actions: list[tuple[str, str, int | None]] = []
        self.injections: list[tuple[int, list[ReusedChunk]]] = []
        self.emitted: list[str] = []

    def emit(self, entry: dict[str, Any], /) -> None:
        self.emitted.append(entry["path"])
        if entry["kind"] == "file":
            self.actions.append((entry["path"], "hardlink", None))

    def encode(self, entry: dict[str, Any], /) -> None:
        self.emitted.append(entry["path"])
        self.actions.append((entry["path"], "reencode", self.position))
        self.suggested.append(self.position)
        self.position += 16 + entry["size"]
        self.raw_bytes += 16 + entry["size"]

    def reuse(self, entry: dict[str, Any], offset: int, /) -> None:
        self.emitted.append(entry["path"])
        self.actions.append((entry["path"], "reuse", offset))
        self.suggested.append(self.position)

    def inject(self, chunks: Sequence[ReusedChunk], /) -> None:
        self.injections.append((self.position, list(chunks)))
        self.position += sum(chunk.size for chunk in chunks)


def play(scenario: dict[str, Any], border: BorderRule) -> Recorder:
    recorder = Recorder()
    index = ListIndex([(c["end"], c["digest"].encode()) for c in scenario["previous_index"]])
    plan: LookAhead[dict[str, Any]] = LookAhead(
        index, recorder, queue_max=scenario["cache_limit"], border=border
    )
    parents: list[str] = []
    seen: set[str] = set()
    for step in scenario["walk"]:
        if step["kind"] == "dir-end":
            plan.other({"kind": "dir-end", "path": "/".join(parents) + "/"})
            parents.pop()
            continue
        path = "/".join([*parents, step["name"]])
        entry = {"kind": step["kind"], "path": path, "size": step.get("size")}
        if step["kind"] == "dir":
            parents.append(step["name"])
        if step["kind"] != "file" or step.get("inode") in seen:
            plan.other(entry)
            continue
        if "inode" in step:
            seen.add(step["inode"])
        if step["previous_payload_offset"] is None:
            plan.changed_file(entry)
        else:
            plan.unchanged_file(entry, step["previous_payload_offset"], step["size"])
    plan.finish()
    return recorder


def actions_of(decisions: list[dict[str, Any]]) -> list[tuple[str, str, int | None]]:
    return [
        (one["path"], one["action"], one.get("payload_offset"))
        for one in decisions
        if "path" in one
    ]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s["name"])
def test_decides_as_recorded_when_the_following_chunk_is_taken(scenario: dict[str, Any]) -> None:
    recorder = play(scenario, BorderRule.TAKE_FOLLOWING)

    assert recorder.actions == actions_of(scenario["decisions"])
    assert [
        (
            boundary,
            [(c.digest.decode(), c.size, c.padding, c.end) for c in chunks],
        )
        for boundary, chunks in recorder.injections
    ] == [
        (
            one["boundary"],
            [(c["digest"], c["size"], c["padding"], c["previous_end"]) for c in one["chunks"]],
        )
        for one in scenario["injections"]
    ]
    assert recorder.suggested == scenario["suggested_boundaries"]
    assert recorder.position + 16 == scenario["new_payload_length"]
    assert recorder.raw_bytes == scenario["raw_bytes_written"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s["name"])
def test_decides_as_recorded_when_it_stops_at_a_border(scenario: dict[str, Any]) -> None:
    expected = scenario.get("with_border_rule_le", scenario)

    recorder = play(scenario, BorderRule.STOP)

    assert recorder.actions == actions_of(expected["decisions"])
    assert [
        (boundary, [c.digest.decode() for c in chunks]) for boundary, chunks in recorder.injections
    ] == [
        (one["boundary"], [c if isinstance(c, str) else c["digest"] for c in one["chunks"]])
        for one in expected["injections"]
    ]
    assert recorder.position + 16 == expected["new_payload_length"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s["name"])
def test_entries_come_out_in_walk_order(scenario: dict[str, Any]) -> None:
    recorder = play(scenario, BorderRule.STOP)

    parents: list[str] = []
    expected = []
    for step in scenario["walk"]:
        if step["kind"] == "dir-end":
            expected.append("/".join(parents) + "/")
            parents.pop()
            continue
        expected.append("/".join([*parents, step["name"]]))
        if step["kind"] == "dir":
            parents.append(step["name"])
    assert recorder.emitted == expected


def test_a_reference_beyond_the_last_payload_is_read_again() -> None:
    recorder = Recorder()
    plan: LookAhead[dict[str, Any]] = LookAhead(ListIndex([(1000, b"a")]), recorder)

    assert not plan.unchanged_file({"kind": "file", "path": "x", "size": 985}, 16, 985)
    plan.finish()

    assert recorder.actions == [("x", "reencode", 16)]


def test_statistics_tell_reused_bytes_and_dead_weight() -> None:
    recorder = Recorder()
    plan: LookAhead[dict[str, Any]] = LookAhead(ListIndex([(1000, b"a"), (1500, b"b")]), recorder)

    assert plan.unchanged_file({"kind": "file", "path": "x", "size": 968}, 16, 968)
    plan.finish()

    assert (plan.stats.reused_files, plan.stats.reused_bytes) == (1, 984)
    assert (plan.stats.injected_bytes, plan.stats.padding_bytes) == (1000, 16)
