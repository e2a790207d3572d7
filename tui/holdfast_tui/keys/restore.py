"""Keys of the view restore."""

from holdfast_tui.keys.key import Key

KEYS: tuple[Key, ...] = ()
