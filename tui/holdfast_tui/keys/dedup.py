"""Keys of the view of deduplication and garbage collection."""

from holdfast_tui.keys.key import Key

KEYS = (
    Key(
        id="dedup.tab_before",
        keys="left_square_bracket",
        action="tab(-1)",
        label="part before",
        help="the part before, where not all of them have room",
    ),
    Key(
        id="dedup.tab_next",
        keys="right_square_bracket",
        action="tab(1)",
        label="next part",
        bar=6,
        shown="[]",
        help="the next part: who, sizes, sharing, collection",
    ),
    Key(
        id="dedup.store_before",
        keys="h,left",
        action="store(-1)",
        label="store before",
        help="the store before",
    ),
    Key(
        id="dedup.store_next",
        keys="l,right",
        action="store(1)",
        label="store",
        bar=7,
        shown="hl",
        help="the next store",
    ),
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
