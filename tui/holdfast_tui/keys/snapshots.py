"""Keys of the view snapshots."""

from holdfast_tui.keys.key import Key

KEYS: tuple[Key, ...] = ()
