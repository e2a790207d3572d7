"""Trees written as archives against a previous snapshot, as recorded for metadata mode.

The recorded walks become real directories of sparse files. The previous archive is a first pass
over the same directory whose references are then set to the recorded offsets; a file recorded as
changed gets other permissions there.
"""

import os
import struct
from pathlib import Path
from typing import Any

import pytest
from tests.harness.tree_streams import MemoryIndex, SplitArchive, write_split
from tests.harness.vectors import load

from holdfast.archive.previous_tree import PreviousTree
from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.format import Kind
from holdfast.units import MIB

SCENARIOS = load("pxar", "metadata_mode")["scenarios"]
OFFSET = struct.Struct("<Q")


def materialise(root: Path, scenario: dict[str, Any]) -> dict[str, int | None]:
    """Make the recorded walk real; the previous payload offset of every file by path."""
    offsets: dict[str, int | None] = {}
    inodes: dict[str, Path] = {}
    here = root
    for step in scenario["walk"]:
        if step["kind"] == "dir-end":
            here = here.parent
            continue
        path = here / step["name"]
        if step["kind"] == "dir":
            path.mkdir()
            here = path
        elif step["kind"] == "symlink":
            path.symlink_to("anywhere")
        elif step.get("inode") in inodes:
            path.hardlink_to(inodes[step["inode"]])
        else:
            path.touch()
            os.truncate(path, step["size"])
            offsets[str(path.relative_to(root))] = step["previous_payload_offset"]
            if "inode" in step:
                inodes[step["inode"]] = path
    return offsets


def previous_of(
    first: SplitArchive, scenario: dict[str, Any], offsets: dict[str, int | None]
) -> PreviousTree:
    data = bytearray(first.meta.data)
    for step in Accessor(first.meta, first.payload).walk():
        if step.entry.kind is Kind.FILE:
            offset = offsets[step.path.decode()]
            if offset is None:
                data[step.entry.entry_start + 16] ^= 1  # permissions
            else:
                OFFSET.pack_into(data, step.entry.end - 16, offset)
    ends = [chunk["end"] for chunk in scenario["previous_index"]]
    return PreviousTree(bytes(data), MemoryIndex(bytes(ends[-1]), ends))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_contents_are_taken_over_as_recorded(scenario: dict[str, Any], tmp_path: Path) -> None:
    expected = scenario.get("with_border_rule_le", scenario)
    offsets = materialise(tmp_path, scenario)
    first = write_split(str(tmp_path), room=MIB)
    previous = previous_of(first, scenario, offsets)

    again = write_split(
        str(tmp_path), previous=previous, queue_max=scenario["cache_limit"], room=MIB
    )

    references = {
        step.path.decode(): step.entry.payload
        for step in Accessor(again.meta, again.payload).walk()
        if step.entry.kind is Kind.FILE
    }
    decided = [one for one in expected["decisions"] if one.get("payload_offset") is not None]
    assert references == {one["path"]: one["payload_offset"] for one in decided}
    names = [chunk["digest"] for chunk in scenario["previous_index"]]
    injected = [[names[number] for number in numbers] for numbers in again.injected]
    assert injected == [
        [chunk if isinstance(chunk, str) else chunk["digest"] for chunk in one["chunks"]]
        for one in expected["injections"]
    ]
    assert len(again.payload.data) == expected["new_payload_length"]
    assert again.summary.changed_files == sum(offset is None for offset in offsets.values()) + (
        scenario["name"] == "previous-not-monotonic"
    )
