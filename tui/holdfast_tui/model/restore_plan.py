"""What is to be restored, and how that becomes a command line; pure."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from holdfast.archive.restore_rules import Overwrite
from holdfast.archive.restore_without import Without
from holdfast.errors import BadRequest
from holdfast.ids import Namespace, SnapshotId

POLICIES: Final = (Overwrite.KEEP_BOTH, Overwrite.NEVER, Overwrite.IF_NEWER, Overwrite.ALWAYS)
POLICY_WORDS: Final = {
    Overwrite.FRESH: "nothing is there",
    Overwrite.KEEP_BOTH: "keep both: NAME.restored beside NAME",
    Overwrite.NEVER: "leave what is there",
    Overwrite.IF_NEWER: "replace what is older",
    Overwrite.ALWAYS: "replace what differs",
}
WITHOUT_OPTIONS: Final = {
    Without.OWNER: "--no-owner",
    Without.SETID: "--no-setid",
    Without.DEVICES: "--no-devices",
    Without.XATTRS: "--no-xattrs",
    Without.ACLS: "--no-acls",
    Without.FLAGS: "--no-flags",
}
INLINE_PATHS_MAX: Final = 40
INLINE_BYTES_MAX: Final = 32 * 1024
SAVED_PATHS_MAX: Final = 1500
_SYSTEM: Final = re.compile(r"/|/(bin|boot|dev|etc|home|lib|lib64|opt|root|sbin|srv|usr|var)(/.*)?")


def literal(path: bytes) -> bytes:
    r"""A pattern that means exactly this path: anchored, and `*?[\` escaped."""
    return b"/" + re.sub(rb"([\\*?\[])", rb"\\\1", path)


def include_words(decisions: Mapping[bytes, bool]) -> list[str] | None:
    """`--include` options that take exactly these paths; None when there are too many of them."""
    if decisions == {b"": True}:
        return []
    if b"" in decisions or len(decisions) > INLINE_PATHS_MAX:
        return None
    words: list[str] = []
    for path, taken in sorted(decisions.items()):
        words += ["--include", os.fsdecode((b"" if taken else b"!") + literal(path))]
    return words if sum(map(len, words)) <= INLINE_BYTES_MAX else None


def paths_file(decisions: Mapping[bytes, bool]) -> bytes:
    """The same as the content of a file for `--include-from0`."""
    return b"".join(
        (b"" if taken else b"!") + b"/" + path + b"\0" for path, taken in sorted(decisions.items())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What somebody marked, and where it is to go.

    Attributes:
        decisions: paths taken or left out again; empty for an image or blob.
        policy: for files that are there and differ.
        keyfile: that somebody named for this store; empty: the configured one, if any.
    """

    store: str
    snapshot: SnapshotId
    archive: str
    target: str
    decisions: Mapping[bytes, bool] = field(default_factory=dict)
    policy: Overwrite = Overwrite.KEEP_BOTH
    without: Without = Without.NOTHING
    keyfile: str = ""

    def words(self, rule: Overwrite, *, list_file: str = "") -> tuple[str, ...]:
        """The command after `holdfast --store STORE`.

        Args:
            rule: what the destination asks for: FRESH, or the policy.
            list_file: holds the paths when there are too many for the command line.
        """
        words = ["restore", str(self.snapshot), self.target, "--archive", self.archive]
        if self.snapshot.ns.parts:
            words += ["--ns", "/".join(self.snapshot.ns.parts)]
        if list_file:
            words += ["--include-from0", list_file]
        elif self.decisions:
            words += include_words(self.decisions) or []
        if rule is not Overwrite.FRESH:
            words += ["--overwrite", rule.value]
        words += [option for what, option in WITHOUT_OPTIONS.items() if what in self.without]
        words += ["--keyfile", self.keyfile] if self.keyfile else []
        return tuple(words)

    @property
    def needs_list(self) -> bool:
        """Whether the paths do not fit on a command line."""
        return bool(self.decisions) and include_words(self.decisions) is None

    def to_text(self) -> str:
        """For the file of view states; empty when it is too much to keep."""
        if len(self.decisions) > SAVED_PATHS_MAX:
            return ""
        return json.dumps(
            {
                "store": self.store,
                "ns": "/".join(self.snapshot.ns.parts),
                "snapshot": str(self.snapshot),
                "archive": self.archive,
                "target": self.target,
                "take": [os.fsdecode(path) for path, taken in self.decisions.items() if taken],
                "leave": [os.fsdecode(path) for path, taken in self.decisions.items() if not taken],
                "policy": self.policy.value,
                "without": self.without.value,
            }
        )

    @classmethod
    def from_text(cls, text: str) -> "Selection | None":
        """What was kept; None for nothing, or for what cannot be understood any more."""
        try:
            found = json.loads(text)
            decisions = {os.fsencode(path): True for path in found["take"]}
            decisions |= {os.fsencode(path): False for path in found["leave"]}
            return cls(
                store=str(found["store"]),
                snapshot=SnapshotId.parse(found["snapshot"], Namespace.parse(found["ns"])),
                archive=str(found["archive"]),
                target=str(found["target"]),
                decisions=decisions,
                policy=Overwrite(found["policy"]),
                without=Without(found["without"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, BadRequest):
            return None


def is_system_path(path: str) -> bool:
    """Whether a running system lives there; new directories of one's own below do not count."""
    return _SYSTEM.fullmatch(path) is not None and path.count("/") <= 2  # noqa: PLR2004


def summary(decisions: Mapping[bytes, bool]) -> str:
    """`4 marked`, `4 marked, 1 left out`."""
    taken = sum(decisions.values())
    left_out = len(decisions) - taken
    more = f", {left_out} left out" if left_out else ""
    return f"{taken:,} marked{more}"
