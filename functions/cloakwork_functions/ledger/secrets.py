"""The service's master secret, and what is derived from it. It never enters the database, a log or an error.

CLOAKWORK_SECRET   the secret, 64 hexadecimal digits; gateways that share books must share it
HOME/secret        the same, in a file that only its owner can read; made at first use
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cloakwork.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Secrets"]

VARIABLE = "CLOAKWORK_SECRET"
SECRET_BYTES = 32
NONCE_BYTES = 12
WRITTEN = re.compile(r"[0-9a-fA-F]{64}\s*")


class Secrets:
    """Keys for many purposes out of one master secret.

    Args:
        master: 32 random bytes.
    """

    def __init__(self, master: bytes) -> None:
        assert len(master) == SECRET_BYTES, "the master secret is 32 bytes"
        self._master = master
        self._derived: dict[str, bytes] = {}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Take the secret from the environment, else from a file, which is made if there is none.

        Raises:
            ConfigError: `bad_secret`, what is there is malformed, or others may read it.
        """
        written = os.environ.get(VARIABLE)
        where = VARIABLE
        if written is None:
            _make(path)
            written, where = _read(path), str(path)
        if not WRITTEN.fullmatch(written):
            raise ConfigError(
                "bad_secret",
                f"{where} must hold 64 hexadecimal digits; restore it, or nothing sealed can be read.",
            )
        return cls(bytes.fromhex(written.strip()))

    def derive(self, name: str) -> bytes:
        """Give the key of 32 bytes for a purpose (HKDF-SHA256)."""
        if name not in self._derived:
            derivation = HKDF(SHA256(), SECRET_BYTES, salt=None, info=b"cloakwork " + name.encode())
            self._derived[name] = derivation.derive(self._master)
        return self._derived[name]

    def seal(self, name: str, plaintext: bytes, context: bytes) -> str:
        """Encrypt for a purpose (AES-256-GCM), as base64url text.

        Args:
            name: the purpose.
            plaintext: what to encrypt.
            context: where it will stand, such as a row's name; it opens nowhere else.
        """
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._cipher(name, context).encrypt(nonce, plaintext, context)
        return base64.urlsafe_b64encode(nonce + sealed).decode()

    def open(self, name: str, sealed: str, context: bytes) -> bytes:
        """Decrypt what `seal` wrote for the same purpose and context.

        Raises:
            ConfigError: `bad_secret`, it was sealed under another secret, for elsewhere, or is damaged.
        """
        try:
            data = base64.urlsafe_b64decode(sealed)
            return self._cipher(name, context).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise ConfigError(
                "bad_secret",
                "What the database holds was sealed under another secret, or is damaged; give every gateway "
                f"that shares it the same {VARIABLE}.",
            ) from None

    def _cipher(self, name: str, context: bytes) -> AESGCM:
        # A key of its own for each context, because random nonces bear only 2^32 messages under one key.
        return AESGCM(hmac.digest(self.derive(name), context, "sha256"))


def _make(path: Path) -> None:
    """Write a new secret unless there is one: whole or not at all, whoever else does the same."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secrets.token_hex(SECRET_BYTES)}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first: its secret is the one
            os.link(draft, path)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> str:
    with path.open(encoding="ascii", errors="replace") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise ConfigError(
                "bad_secret",
                f"{path} can be read by others; if it is still secret, protect it with chmod 600.",
            )
        return file.read()
