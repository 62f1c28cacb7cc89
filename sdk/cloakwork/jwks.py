"""The public Ed25519 keys of a service, as it publishes them: a JWKS document (RFC 7517, RFC 8037).

A key's name is its RFC 7638 thumbprint, so the name says which bytes it stands for.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from .errors import ReceiptError

__all__ = ["Keys", "decode64", "encode64", "jwks_of", "keys_of", "thumbprint"]

Keys: TypeAlias = Mapping[str, bytes]

PUBLIC_BYTES = 32


def keys_of(jwks: Any) -> dict[str, bytes]:
    """Public keys by thumbprint, from a decoded JWKS document; keys of other kinds are passed over.

    Raises:
        ReceiptError: `receipt_keys_invalid`.
    """
    try:
        ours = [jwk["x"] for jwk in jwks["keys"] if (jwk["kty"], jwk.get("crv")) == ("OKP", "Ed25519")]
        publics = [decode64(x) for x in ours]
    except (ValueError, TypeError, KeyError, AttributeError):
        publics = []
    if not publics or any(len(public) != PUBLIC_BYTES for public in publics):
        raise ReceiptError(
            "receipt_keys_invalid",
            "This is no JWKS document with Ed25519 keys; the service has one at /.well-known/jwks.json.",
        )
    return {thumbprint(public): public for public in publics}


def jwks_of(publics: Iterable[bytes]) -> dict[str, list[dict[str, str]]]:
    """The document that publishes these keys."""
    signs = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA"}
    return {"keys": [{**signs, "kid": thumbprint(public), "x": encode64(public)} for public in publics]}


def thumbprint(public: bytes) -> str:
    """The RFC 7638 thumbprint of an Ed25519 public key."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": encode64(public)}
    return encode64(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())


def encode64(data: bytes) -> str:
    """Write base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode64(text: str) -> bytes:
    """Read exactly what `encode64` writes.

    Raises:
        ValueError: it is anything else.
    """
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode64(data) != text:
        raise ValueError("not base64url without padding")
    return data
