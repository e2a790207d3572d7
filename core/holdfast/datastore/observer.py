"""Who is told how far long work has come; `operations.progress` knows it as Progress."""

from typing import Final, Protocol


class Observer(Protocol):
    """Somebody who wants to know how far the work is."""

    def phase(self, name: str) -> None:
        """A new stretch of work begins ("mark", "sweep"); counts start again at zero."""
        ...

    def total(self, items: int | None = None, bytes: int | None = None) -> None:  # noqa: A002
        """How much this phase will be, as far as is known; may be corrected at any time."""
        ...

    def advance(self, items: int = 0, bytes: int = 0) -> None:  # noqa: A002
        """So much more is done."""
        ...

    def item(self, name: str) -> None:
        """What is being worked on now, such as a path; need not be clean text."""
        ...

    def warn(self, message: str) -> None:
        """Something was skipped; the work goes on and ends with exit code 3."""
        ...


class Nobody:
    """Nobody listens."""

    def phase(self, name: str) -> None:
        pass

    def total(self, items: int | None = None, bytes: int | None = None) -> None:  # noqa: A002
        pass

    def advance(self, items: int = 0, bytes: int = 0) -> None:  # noqa: A002
        pass

    def item(self, name: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass


NOBODY: Final[Observer] = Nobody()
