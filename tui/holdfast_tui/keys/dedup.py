"""Keys of the view of deduplication and garbage collection."""

from holdfast_tui.keys.key import Key, of_parts, of_stores

KEYS = (
    *of_parts("dedup", "who, sizes, sharing, collection"),
    *of_stores("dedup"),
    Key(
        id="dedup.count",
        keys="c",
        action="count",
        label="if removed",
        bar=10,
        help="count what removing the marked groups would free",
    ),
    Key(
        id="dedup.analyse",
        keys="A",
        action="analyse",
        label="measure",
        mutates=True,
        bar=20,
        help="measure again who uses the space: a job that reads the indexes and remembers it",
    ),
    Key(
        id="dedup.collect",
        keys="C",
        action="collect",
        label="collect",
        mutates=True,
        bar=21,
        help="remove chunks that no snapshot needs (garbage collection)",
    ),
)
