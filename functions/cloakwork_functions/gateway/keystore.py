"""Evaluation keys that clients uploaded: a file each, under a folder for each API key.

They are public: they let the server compute on ciphertexts and re-randomise answers, never decrypt. A whole
key set is named by its fingerprint, one on its way also by its total (see `stage`). A file's time of change
is when it was last used or last grew; by it the least recently used go first.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cloakwork.chunk import KeyUpload, Limit
from cloakwork.errors import BusyError, InputError, NotFoundError, PrivacyError

from .stage import Stage, busy

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KeyLimits", "KeyStore"]

FINGERPRINT = re.compile(r"[0-9a-f]{64}")
STAGED_SECONDS = 24 * 3600.0
MOST_FILES = 1024
HEAD_BYTES = 1024


@dataclass(frozen=True)
class KeyLimits:
    """What an operator keeps of clients' evaluation keys.

    Attributes:
        quota: most bytes of one account, those still on their way included.
        unused_seconds: how long a key set that nobody uses is kept.
    """

    quota: int = 512 << 20
    unused_seconds: float = 30 * 24 * 3600.0

    @property
    def largest(self) -> int:
        """Most bytes of one key set."""
        return min(self.quota, Limit.EVALUATION_KEYS)


class File(NamedTuple):
    """A file of an account, in the order in which they go: whole sets first, then by their last use."""

    staged: bool
    used: float
    size: int
    path: Path


class KeyStore:
    """The files under one folder."""

    def __init__(self, root: Path, limits: KeyLimits) -> None:
        self._root = root
        self._limits = limits
        self.sweep()

    def find(self, account: str, fingerprint: str) -> Path:
        """Give the file of an account's keys.

        Raises:
            PrivacyError: `evaluation_keys_missing`.
        """
        path = self._path(account, fingerprint)
        try:
            os.utime(path)
        except FileNotFoundError:
            raise PrivacyError(
                "evaluation_keys_missing",
                "The evaluation keys of this ciphertext are not here; upload them, then call again.",
            ) from None
        return path

    def head(self, account: str, fingerprint: str) -> bytes:
        """Give the beginning of an account's keys, where their label is.

        Raises:
            PrivacyError: `evaluation_keys_missing`.
        """
        with self.find(account, fingerprint).open("rb") as file:
            return file.read(HEAD_BYTES)

    def standing(self, account: str, fingerprint: str) -> KeyUpload:
        """Tell how much of an account's keys is here."""
        path = self._path(account, fingerprint)
        with suppress(FileNotFoundError):
            return KeyUpload(fingerprint, path.stat().st_size, complete=True)
        stage = _staged(path)
        with suppress(FileNotFoundError):
            return KeyUpload(fingerprint, stage.stat().st_size if stage else 0, complete=False)
        return KeyUpload(fingerprint, 0, complete=False)

    def open_stage(self, account: str, fingerprint: str, total: int) -> Stage:
        """Open the file that keys of `total` bytes arrive in; use it as a context manager.

        Raises:
            BusyError: `in_flight`, another chunk of them is arriving.
            InputError: `upload_total_mismatch`, they were begun with another total.
            PrivacyError: `evaluation_keys_too_large`.
        """
        path = self._path(account, fingerprint)
        if total > self._limits.largest:
            raise PrivacyError(
                "evaluation_keys_too_large",
                f"These keys have {total} bytes and this service takes {self._limits.largest} at most; ask "
                "its operator for more, or use a model with fewer or smaller keys.",
            )
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        wanted = path.with_name(f"{fingerprint}.{total}")
        if (_staged(path) or wanted) != wanted:
            raise InputError(
                "upload_total_mismatch",
                "An upload of these keys was begun with another total; go on with that one, or delete it.",
            )
        return Stage.open(wanted)

    def make_room(self, stage: Stage, size: int) -> None:
        """Remove of a stage's account what was least recently used, until so many bytes fit.

        Raises:
            BusyError: `overloaded`, other uploads that are under way fill the quota.
        """
        files = sorted(_files(stage.path.parent))
        used = sum(file.size for file in files) + size
        count = len(files)
        for file in files:
            if used <= self._limits.quota and count <= MOST_FILES:
                return
            if file.path != stage.path and not (file.staged and busy(file.path)):
                file.path.unlink(missing_ok=True)
                used -= file.size
                count -= 1
        if used > self._limits.quota:
            raise BusyError(
                "overloaded",
                f"Other uploads under way fill your quota of {self._limits.quota} bytes; try again shortly.",
                retry_after=1,
            )

    def discard(self, account: str, fingerprint: str) -> None:
        """Remove an account's keys, whole or on their way.

        Raises:
            BusyError: `in_flight`, a chunk of them is arriving.
        """
        path = self._path(account, fingerprint)
        path.unlink(missing_ok=True)
        if staged := _staged(path):
            with Stage.open(staged) as stage:
                stage.drop()

    def sweep(self) -> None:
        """Remove whole sets that nobody uses any more, and uploads that nobody goes on with."""
        now = time.time()
        for folder in self._root.glob("*/"):
            for file in _files(folder):
                patience = STAGED_SECONDS if file.staged else self._limits.unused_seconds
                if now - file.used > patience and not (file.staged and busy(file.path)):
                    file.path.unlink(missing_ok=True)

    def _path(self, account: str, fingerprint: str) -> Path:
        if not FINGERPRINT.fullmatch(fingerprint):
            raise NotFoundError("unknown_path", "A fingerprint is 64 hexadecimal digits.")
        return self._root / account / fingerprint


def _staged(path: Path) -> Path | None:
    """Find the upload of a key set, if there is one."""
    return next(path.parent.glob(f"{path.name}.*"), None)


def _files(folder: Path) -> list[File]:
    """List an account's files; what another gateway removes meanwhile is passed over."""
    files = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            status = path.stat()
            files.append(File(bool(path.suffix), status.st_mtime, status.st_size, path))
    return files
