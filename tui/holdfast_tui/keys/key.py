"""One entry of the tables of keys."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key of a view, and everything that is said about it.

    Attributes:
        id: stable name, `view.action`; users rebind by it.
        keys: Textual's names, separated by commas; the first one is shown.
        action: the method `action_<action>` of the view (or of the list, or of the app).
        label: one or two words for the key bar and the palette.
        help: one line for the help page.
        mutates: changes something; such keys are upper-case letters and do not exist in read-only
            mode.
        needs_content: shows names or contents of files; does not exist with --no-content.
        bar: place in the key bar, lowest first; 0 is not shown there.
        shown: how the key is written; empty: from `keys`.
    """

    id: str
    keys: str
    action: str
    label: str
    help: str
    mutates: bool = False
    needs_content: bool = False
    bar: int = 0
    shown: str = ""

    @property
    def view(self) -> str:
        return self.id.partition(".")[0]
