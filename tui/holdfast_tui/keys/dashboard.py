"""Keys of the dashboard."""

from holdfast_tui.keys.key import Key

KEYS = (
    Key(
        id="dashboard.backup",
        keys="B",
        action="backup",
        label="backup",
        mutates=True,
        bar=20,
        help="run a configured backup job, or back up directories",
    ),
    Key(
        id="dashboard.verify",
        keys="V",
        action="verify",
        label="verify",
        mutates=True,
        bar=21,
        help="read the store again and check it",
    ),
    Key(
        id="dashboard.collect",
        keys="C",
        action="collect",
        label="collect",
        mutates=True,
        bar=22,
        help="remove chunks that no snapshot needs (garbage collection)",
    ),
)
