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


def of_parts(view: str, parts: str) -> tuple[Key, ...]:
    """[ and ] in a view of several parts, which are named for the help page."""
    return (
        Key(
            id=f"{view}.tab_before",
            keys="left_square_bracket",
            action="tab(-1)",
            label="part before",
            help="the part before, where not all of them have room",
        ),
        Key(
            id=f"{view}.tab_next",
            keys="right_square_bracket",
            action="tab(1)",
            label="next part",
            bar=6,
            shown="[]",
            help=f"the next part: {parts}",
        ),
    )


def of_stores(view: str) -> tuple[Key, ...]:
    """H and l in a view of one store at a time."""
    return (
        Key(
            id=f"{view}.store_before",
            keys="h,left",
            action="store(-1)",
            label="store before",
            help="the store before",
        ),
        Key(
            id=f"{view}.store_next",
            keys="l,right",
            action="store(1)",
            label="store",
            bar=7,
            shown="hl",
            help="the next store",
        ),
    )


def of_snapshots(
    view: str, *, diff: str, verify: str, lock: str, comment: str, forget: str
) -> tuple[Key, ...]:
    """What can be done with snapshots wherever they are shown; the texts are for the help page."""
    return (
        Key(
            id=f"{view}.browse",
            keys="b",
            action="browse",
            label="browse",
            bar=10,
            needs_content=True,
            help="look at the files, and restore some",
        ),
        Key(
            id=f"{view}.diff",
            keys="d",
            action="diff",
            label="diff",
            bar=11,
            needs_content=True,
            help=diff,
        ),
        *(
            Key(
                id=f"{view}.{action}",
                keys=keys,
                action=action,
                label=label,
                mutates=True,
                bar=bar,
                help=text,
            )
            for action, keys, label, bar, text in (
                ("verify", "V", "verify", 21, verify),
                ("lock", "L", "protect", 22, lock),
                ("forget", "D", "forget", 23, forget),
                ("comment", "E", "note", 24, comment),
            )
        ),
    )
