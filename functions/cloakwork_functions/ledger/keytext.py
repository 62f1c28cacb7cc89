"""The text of an API key: a mark of its privacy floor, 8 letters that name it, 32 that only its holder knows.

    cw_Ab3dEf6h_…    any privacy
    cwa_Ab3dEf6h_…   at least anonymized
    cwe_Ab3dEf6h_…   encrypted only

What comes before the 32 letters is the prefix. The mark tells the SDK what to refuse before anything is sent;
the server goes by the scope it stored.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from typing import TYPE_CHECKING

from cloakwork.wire import KEY_MARKS

if TYPE_CHECKING:
    from cloakwork.wire import Mode

__all__ = ["digest", "new_key", "new_prefix", "successor"]

ALPHABET = string.ascii_letters + string.digits
PREFIX_LETTERS = 8
SECRET_LETTERS = 32


def new_prefix(floor: Mode) -> str:
    """Draw a prefix for a key with a privacy floor."""
    return f"{KEY_MARKS[floor]}_{_letters(PREFIX_LETTERS)}"


def successor(prefix: str) -> str:
    """Give the prefix of the key that takes another's place: it follows from the other's, so there is one."""
    octets = hashlib.sha256(prefix.encode()).digest()[:PREFIX_LETTERS]
    letters = "".join(ALPHABET[octet % len(ALPHABET)] for octet in octets)
    return f"{prefix.partition('_')[0]}_{letters}"


def new_key(prefix: str) -> str:
    """Draw a key with a prefix."""
    return f"{prefix}_{_letters(SECRET_LETTERS)}"


def digest(key: str) -> str:
    """Hash a key, hex. A plain hash is enough: it has 190 random bits, so there is nothing to guess."""
    return hashlib.sha256(key.encode()).hexdigest()


def _letters(count: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(count))
