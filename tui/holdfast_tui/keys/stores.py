"""Keys of the view stores."""

from holdfast_tui.keys.key import Key

KEYS: tuple[Key, ...] = ()
