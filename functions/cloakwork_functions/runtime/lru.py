"""Things kept by name for as long as they fit."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["LeastRecentlyUsed"]

T = TypeVar("T")


class LeastRecentlyUsed(Generic[T]):
    """Keeps what was used last, up to so many bytes; the last of all is kept whatever its size."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._items: OrderedDict[str, tuple[int, T]] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._items

    def get(self, name: str) -> T:
        """Give what has a name, and count that as use.

        Raises:
            KeyError: nothing has it.
        """
        self._items.move_to_end(name)
        return self._items[name][1]

    def add(self, name: str, item: T, size: int) -> None:
        """Keep a thing that was not here; what was used least recently goes to make room."""
        self._used += size
        while self._items and self._used > self._most:
            self._used -= self._items.popitem(last=False)[1][0]
        self._items[name] = (size, item)
