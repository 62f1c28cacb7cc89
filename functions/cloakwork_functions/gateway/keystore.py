"""Evaluation keys that clients uploaded: a file each, under a folder for each API key.

They are public: they let the server compute on ciphertexts and re-randomise answers, never decrypt.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from typing import TYPE_CHECKING

from cloakwork.errors import NotFoundError, PrivacyError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KeyStore"]

FINGERPRINT = re.compile(r"[0-9a-f]{64}")
KEPT_PER_ACCOUNT = 16
STAGED_SECONDS = 3600.0


class KeyStore:
    """The files under one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for staged in root.glob("*/*.*"):
            # What a killed gateway had not finished checking; another's, under way, is younger.
            if time.time() - staged.stat().st_mtime > STAGED_SECONDS:
                staged.unlink(missing_ok=True)

    def find(self, account: str, fingerprint: str) -> Path:
        """Give the file of an account's keys.

        Raises:
            PrivacyError: `evaluation_keys_missing`.
        """
        path = self._path(account, fingerprint)
        try:
            os.utime(path)  # its time of change is when it was last used
        except FileNotFoundError:
            raise PrivacyError(
                "evaluation_keys_missing",
                "The evaluation keys of this ciphertext are not here; upload them, then call again.",
            ) from None
        return path

    def has(self, account: str, fingerprint: str) -> bool:
        """Tell whether an account's keys are here."""
        return self._path(account, fingerprint).exists()

    def stage(self, account: str, fingerprint: str, frame: bytes) -> Path:
        """Write keys where they can be checked; `keep` or unlink what this returns.

        Raises:
            PrivacyError: `evaluation_keys_invalid` when the bytes are not those the fingerprint names.
        """
        if hashlib.sha256(frame).hexdigest() != fingerprint:
            raise PrivacyError(
                "evaluation_keys_invalid",
                "The keys do not match the fingerprint in the address; upload them again.",
            )
        path = self._path(account, fingerprint)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        staged = path.with_suffix(f".{secrets.token_hex(8)}")
        staged.write_bytes(frame)
        return staged

    def keep(self, staged: Path) -> None:
        """Make checked keys findable; the least recently used beyond the quota go."""
        staged.rename(staged.with_suffix(""))
        files = sorted(
            (path for path in staged.parent.iterdir() if not path.suffix),
            key=lambda path: path.stat().st_mtime,
        )
        for old in files[:-KEPT_PER_ACCOUNT]:
            old.unlink(missing_ok=True)

    def _path(self, account: str, fingerprint: str) -> Path:
        if not FINGERPRINT.fullmatch(fingerprint):
            raise NotFoundError("unknown_path", "A fingerprint is 64 hexadecimal digits.")
        return self._root / account / fingerprint
