"""Keys of the view stores."""

from holdfast_tui.keys.key import Key

KEYS = (
    Key(
        id="stores.add",
        keys="A",
        action="add",
        label="add",
        mutates=True,
        bar=20,
        help="make a store, or open one that is there, and put it into the configuration",
    ),
    Key(
        id="stores.first_steps",
        keys="F",
        action="first_steps",
        label="first steps",
        mutates=True,
        bar=21,
        help="store, key, first backup, schedule and retention, one after the other",
    ),
)
