"""Keys of the view dedup."""

from holdfast_tui.keys.key import Key

KEYS: tuple[Key, ...] = ()
