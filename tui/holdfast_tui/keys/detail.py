"""Keys of the snapshot detail."""

from holdfast_tui.keys.key import Key, of_parts, of_snapshots

KEYS = (
    *of_parts("detail", "manifest, checks, chunks, sharing"),
    Key(
        id="detail.older",
        keys="h,left",
        action="older(1)",
        label="older",
        bar=7,
        shown="hl",
        help="the snapshot of the group before this one",
    ),
    Key(
        id="detail.newer",
        keys="l,right",
        action="older(-1)",
        label="newer",
        help="the snapshot of the group after this one",
    ),
    *of_snapshots(
        "detail",
        diff="what changed since the snapshot before",
        verify="read it again and check it",
        lock="keep it from prune and forget, or no longer",
        forget="remove it; says first how many bytes that frees",
        comment="write a note on it",
    ),
    Key(
        id="detail.impact",
        keys="i",
        action="impact",
        label="impact",
        bar=12,
        help="which snapshots and files damaged chunks reach",
    ),
)
