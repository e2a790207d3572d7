"""Who is told how far long work on a store has come; `operations.progress.Progress` fits."""

from typing import Final, Protocol


class Observer(Protocol):
    """Somebody who wants to know; calls are cheap and may come from any thread."""

    def phase(self, name: str) -> None: ...
    def total(self, items: int | None = None, bytes: int | None = None) -> None: ...  # noqa: A002
    def advance(self, items: int = 0, bytes: int = 0) -> None: ...  # noqa: A002
    def item(self, name: str) -> None: ...
    def warn(self, message: str) -> None: ...


class _Nobody:
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


NOBODY: Final[Observer] = _Nobody()
