"""A key set on its way: a file that grows by whatever arrives, by one writer at a time.

Its name is FINGERPRINT.TOTAL and its size tells how much is here, so nothing else need be remembered, and a
gateway that is killed leaves a beginning that the next one goes on from. The writer holds a lock that the
operating system drops with the process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from typing import TYPE_CHECKING, Self

from cloakwork.errors import BusyError, InputError, PrivacyError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["Stage", "busy"]


class Stage:
    """An open, locked stage. Make one with `open`.

    Attributes:
        path: the file; its name begins with the fingerprint.
        received: bytes in it.
        total: bytes of the whole set.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.received = os.fstat(descriptor).st_size
        self.total = int(path.suffix[1:])
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> Stage:
        """Open a stage, new or begun.

        Raises:
            BusyError: `in_flight`, another writer has it.
        """
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same(path, descriptor):
                    return cls(path, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                raise BusyError(
                    "in_flight", "A chunk of these keys is arriving already; ask how many are here and go on."
                ) from None
            # Between the two calls the last writer finished with it; what is locked is not there any more.
            os.close(descriptor)

    def expect(self, start: int) -> None:
        """Check that a chunk begins where the file ends.

        Raises:
            InputError: `upload_offset_mismatch`.
        """
        if start != self.received:
            raise InputError(
                "upload_offset_mismatch",
                f"The chunk begins at byte {start} and byte {self.received} is due; go on from there.",
            )

    def append(self, data: bytes) -> None:
        """Write what arrived. A part of it that was written before a failure stays, and is as good."""
        view = memoryview(data)
        while view:
            written = os.write(self._descriptor, view)
            self.received += written
            view = view[written:]

    def verify(self) -> None:
        """Check that the whole is what the fingerprint names, and that it will outlive a power cut.

        Takes a while; opens the file anew, so that it may be left alone in its thread.

        Raises:
            PrivacyError: `evaluation_keys_invalid`.
        """
        with self.path.open("rb") as file:
            os.fsync(file)
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.path.stem:
            raise PrivacyError(
                "evaluation_keys_invalid",
                "The keys do not match the fingerprint in the address; upload them again.",
            )

    def keep(self) -> None:
        """Make the keys findable, once they are checked."""
        self.path.rename(self.path.with_suffix(""))

    def drop(self) -> None:
        """Remove what arrived."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.received == 0:
            self.drop()  # nothing came of it
        os.close(self._descriptor)


def busy(path: Path) -> bool:
    """Tell whether a stage has a writer."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
