import time
from typing import Any

import pytest
from tests.harness.archives import recorded_archives
from tests.harness.vectors import load

from holdfast.archive.patterns import (
    Match,
    Pattern,
    PatternList,
    normalized,
    parse_arguments,
    parse_exclude_file,
    prelude,
)
from holdfast.errors import BadRequest

VECTORS = load("pxar", "patterns")


@pytest.mark.parametrize("case", VECTORS["glob"], ids=lambda c: f"{c['pattern']} {c['text']}")
def test_globs_match_as_recorded(case: dict[str, Any]) -> None:
    pattern = case["pattern"].encode()
    if isinstance(case["match"], str):
        with pytest.raises(BadRequest):
            Pattern.parse(pattern, anchored=True)
    else:
        compiled = Pattern.parse(pattern, anchored=True)
        assert compiled.matches(case["text"].encode(), is_dir=True) == case["match"]


@pytest.mark.parametrize("case", VECTORS["lists"], ids=lambda c: c["description"])
def test_the_last_match_wins_as_recorded(case: dict[str, Any]) -> None:
    patterns = PatternList(
        Pattern.parse(
            entry["text"].encode(),
            default=Match(entry["default_type"]),
            anchored=entry["anchored"],
        )
        for entry in case["entries"]
    )
    for result in case["results"]:
        found = patterns.match(result["path"].encode(), is_dir=result["is_dir"])
        assert (found.value if found else None) == result["result"], result["path"]


def test_patterns_of_a_directory_are_dropped_when_it_is_left() -> None:
    patterns = PatternList(parse_arguments([b"*.tmp"]))
    before = patterns.extend(parse_exclude_file(b"!keep.tmp\ncache/\n", b"a").patterns)

    assert patterns.match(b"/a/keep.tmp", is_dir=False) is Match.INCLUDE
    assert patterns.needs_kind
    patterns.truncate(before)
    assert patterns.match(b"/a/keep.tmp", is_dir=False) is Match.EXCLUDE
    assert not patterns.needs_kind


def test_exclude_file_lines_with_a_slash_count_from_its_directory() -> None:
    found = parse_exclude_file(b"# note\n\n  /x \n!/y/\nz\n[bad\n", b"we[i]rd")

    assert [(p.glob, p.match, p.dirs_only, p.anchored) for p in found.patterns] == [
        (rb"/we\[i]rd/x", Match.EXCLUDE, False, True),
        (rb"/we\[i]rd/y", Match.INCLUDE, True, True),
        (b"z", Match.EXCLUDE, False, False),
    ]
    assert found.patterns[0].matches(b"/we[i]rd/x", is_dir=False)
    assert "[bad" in found.problems[0]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"a//b", b"a/b"),
        (b"./a", b"a"),
        (b"/../a/./b/", b"/a/b/"),
        (b"!../x", b"!x"),
        (b"/", b"/"),
        (b"plain", b"plain"),
    ],
)
def test_patterns_are_tidied_lexically(given: bytes, kept: bytes) -> None:
    assert normalized(given) == kept


@pytest.mark.parametrize("text", [b"", b"!", b".", b"a\\", b"[", b"[[:nope:]]"])
def test_bad_patterns_of_a_person_are_refused(text: bytes) -> None:
    with pytest.raises(BadRequest, match="pattern"):
        parse_arguments([text])


def test_prelude_holds_the_lines_as_recorded() -> None:
    recorded = next(a for a in recorded_archives() if a["name"] == "v2-rich")
    patterns = PatternList(parse_arguments([b"*.tmp", b"!/keep.tmp", b"cache/"]))

    assert patterns.text == b"*.tmp\n!/keep.tmp\ncache/\n"
    written = prelude(patterns)
    assert written is not None
    assert written.hex() == recorded["prelude_hex"]
    assert prelude(PatternList()) is None
    with pytest.raises(BadRequest, match="UTF-8"):
        prelude(PatternList(parse_arguments([b"\xff"])))


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        (b"*a" * 40 + b"b", b"/" + b"a" * 3000),
        (b"**/a/" * 30 + b"b", b"/a" * 1000),
        (b"*?" * 40 + b"[b]", b"/" + b"a" * 3000),
    ],
)
def test_hostile_patterns_end_soon(glob: bytes, path: bytes) -> None:
    pattern = Pattern.parse(glob)
    began = time.process_time()

    assert not pattern.matches(path, is_dir=False)

    assert time.process_time() - began < 2
