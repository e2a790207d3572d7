"""Keys of the view detail."""

from holdfast_tui.keys.key import Key

KEYS: tuple[Key, ...] = ()
