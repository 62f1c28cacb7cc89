"""API keys: shown once when made, kept as a hash.

A key is `cw_` + an 8-letter prefix + `_` + 32 letters from a cryptographic source. The prefix names
the key wherever people look; the rest is known to its holder alone.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import string
import time
from dataclasses import dataclass

from cloakwork.errors import AuthError, BusyError

__all__ = ["ApiKey", "Keys"]

ALPHABET = string.ascii_letters + string.digits
PREFIX_LETTERS = 8
SECRET_LETTERS = 32


@dataclass(frozen=True)
class ApiKey:
    """What may be shown of a key. Times are Unix seconds."""

    prefix: str
    name: str
    created: int
    revoked: int | None


class Keys:
    """The keys in a database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def create(self, name: str) -> str:
        """Make a key and return it whole, for the only time."""
        prefix = "cw_" + _letters(PREFIX_LETTERS)
        key = f"{prefix}_{_letters(SECRET_LETTERS)}"
        self._connection.execute(
            "INSERT INTO keys (prefix, digest, name, created) VALUES (?, ?, ?, ?)",
            (prefix, _digest(key), name, int(time.time())),
        )
        return key

    def list(self) -> list[ApiKey]:
        """List every key ever made, oldest first."""
        rows = self._connection.execute(
            "SELECT prefix, name, created, revoked FROM keys ORDER BY created, prefix"
        )
        return [ApiKey(*row) for row in rows]

    def revoke(self, prefix: str) -> bool:
        """Refuse a key from now on; false when no live key has that prefix."""
        changed = self._connection.execute(
            "UPDATE keys SET revoked = ? WHERE prefix = ? AND revoked IS NULL", (int(time.time()), prefix)
        )
        return changed.rowcount == 1

    def authenticate(self, authorization: str | None) -> str:
        """Check an `Authorization` header and return the prefix of its key.

        The database is asked every time, so a revocation counts from the next call on.

        Raises:
            AuthError: `missing_key`, `wrong_key` or `revoked_key`.
            BusyError: `ledger_unavailable`, the database cannot be read.
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise AuthError("missing_key", "Send your API key as `Authorization: Bearer cw_…`.")
        prefix = key.rpartition("_")[0]
        try:
            row = self._connection.execute(
                "SELECT digest, revoked FROM keys WHERE prefix = ?", (prefix,)
            ).fetchone()
        except sqlite3.Error as failure:
            raise BusyError(
                "ledger_unavailable", f"API keys cannot be read ({type(failure).__name__}).", retry_after=1
            ) from None
        if row is None or not hmac.compare_digest(row[0], _digest(key)):
            raise AuthError(
                "wrong_key", "This API key is not known here; check it, or create one with `cloakwork keys`."
            )
        if row[1] is not None:
            raise AuthError("revoked_key", f"The API key {prefix} was revoked; ask its owner for a new one.")
        return prefix


def _letters(count: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(count))


def _digest(key: str) -> bytes:
    # A plain hash is enough: the key has 190 random bits, so there is nothing to guess.
    return hashlib.sha256(key.encode()).digest()
