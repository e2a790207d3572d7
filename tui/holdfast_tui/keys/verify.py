"""Keys of the view verify."""

from holdfast_tui.keys.key import Key

KEYS: tuple[Key, ...] = ()
