"""Which gateways are alive: each holds a lock on a file of its own for as long as it lives.

The operating system drops the lock when a process ends, however it ends, so a hold whose gateway died can
be released at once and not only when it expires.
"""

from __future__ import annotations

import fcntl
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Instance"]


class Instance:
    """This gateway, among those that share a folder.

    Attributes:
        name: written with every hold this gateway makes.
    """

    def __init__(self, folder: Path) -> None:
        self.name = secrets.token_hex(8)
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / self.name
        hidden = folder / f".{self.name}"  # until it is locked, lest it be taken for a dead one's
        self._file = hidden.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        hidden.rename(self._path)

    def dead(self) -> list[str]:
        """Name the gateways that ended without saying so."""
        return [path.name for path in self._folder.glob("[!.]*") if path != self._path and _free(path)]

    def forget(self, names: list[str]) -> None:
        """Remove what dead gateways left here, once their holds are released."""
        for name in names:
            (self._folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """End; whatever hold is still open is released by the next gateway's reaper or its expiry."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def _free(path: Path) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return False
    return True
