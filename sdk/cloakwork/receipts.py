"""Receipts: what a call was charged and for what, signed, each bound to the one before it.

    text        base64url(canonical JSON) "." base64url(Ed25519 signature), unpadded
    canonical   RFC 8785, of whole numbers and printable ASCII alone: keys sorted, no white space
    signature   RFC 8032, over "cloakwork receipt 1", a zero byte and the canonical JSON
    previous    SHA-256 of the canonical JSON of the account's receipt before; 64 zeros in the first
    request     SHA-256 over "cloakwork request 1", a zero byte, a salt of 16 bytes, the body; so the answer
    key         RFC 7638 thumbprint of a public key that the service publishes (`cloakwork.jwks`)

The salt comes beside the answer and not in the receipt. An answer may have few bits, and whoever is shown a
receipt with its salt could try them all.

A receipt proves what the service said and that its sums are right. Calls, bytes, records and ciphertexts can
be recounted from the bodies; tokens and microseconds are the service's word. `cloakwork.chain` checks many.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from .errors import ConfigError, InputError, ReceiptError
from .jwks import decode64, encode64
from .price import Line, round_half_even
from .wire import Mode

if TYPE_CHECKING:
    from .jwks import Keys

__all__ = [
    "GENESIS",
    "Receipt",
    "compact",
    "digest",
    "message",
    "parse",
    "recount",
    "verify",
]

GENESIS = "0" * 64
VERSION = 1
SALT_BYTES = 16
SIGNATURE_BYTES = 64
LONGEST_TEXT = 16_384
LONGEST_NAME = 128
# What every reader of JSON takes for the same whole number.
MOST = 2**53 - 1
HEX = re.compile(r"[0-9a-f]{64}")
ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one run was charged. One that exists is well formed and adds up; who signed it is another matter.

    Attributes:
        account: who pays.
        sequence: its place in the account's chain, from 1 without gaps.
        previous: hash of the receipt before it.
        run: the server's name for the call.
        at: when it was charged, Unix seconds.
        model: `name@version`.
        model_digest: SHA-256 of the artifact that ran, hex.
        mode: the privacy mode.
        outcome: how the run ended.
        request, answer: salted digests of both bodies, hex.
        quantities: how much of each unit of `cloakwork.price.UNITS` was used, priced or not.
        price: version of the price; 0 is the one on the model's card.
        lines: what each priced unit costs.
        amount: their sum, nano-USD.
        key: thumbprint of the key that signs it.

    Raises:
        ReceiptError: `receipt_invalid`.
    """

    account: str
    sequence: int
    previous: str
    run: str
    at: int
    model: str
    model_digest: str
    mode: str
    outcome: str
    request: str
    answer: str
    quantities: dict[str, int]
    price: int
    lines: tuple[Line, ...]
    amount: int
    key: str
    version: int = VERSION

    def __post_init__(self) -> None:
        names = self.account, self.run, self.model, self.mode, self.outcome, self.key
        digests = self.previous, self.model_digest, self.request, self.answer
        numbers = self.sequence, self.at, self.price, self.amount, *self.quantities.values()
        if self.version != VERSION:
            raise _invalid("is of another version than this cloakwork knows")
        if not all(map(_is_name, (*names, *self.quantities))):
            raise _invalid("has a name that is none")
        if not all(map(_is_digest, digests)):
            raise _invalid("has a digest that is none")
        if not all(map(_is_number, numbers)) or self.sequence < 1:
            raise _invalid("has a number out of range")
        self._check_sums()

    def _check_sums(self) -> None:
        for line in self.lines:
            if not _is_name(line.unit) or not all(map(_is_number, (line.quantity, line.rate, line.amount))):
                raise _invalid("has a line with a name or number that is none")
            if line.quantity != self.quantities.get(line.unit, 0):
                raise _invalid(f"charges for another quantity of {line.unit} than was used")
            if line.amount != round_half_even(line.quantity * line.rate):
                raise _invalid(f"charges another amount for {line.unit} than quantity times rate")
        if len({line.unit for line in self.lines}) < len(self.lines):
            raise _invalid("charges twice for a unit")
        if self.amount != sum(line.amount for line in self.lines):
            raise _invalid("has another amount than the sum of its lines")

    @property
    def canonical(self) -> bytes:
        """The bytes that are signed and hashed."""
        members: dict[str, Any] = {name: getattr(self, name) for name in FIELDS}
        members["lines"] = [line.__dict__ for line in self.lines]
        return ENCODER.encode(members).encode()

    @property
    def hash(self) -> str:
        """What the next receipt names as its previous."""
        return hashlib.sha256(self.canonical).hexdigest()


FIELDS = tuple(field.name for field in fields(Receipt))


def message(canonical: bytes) -> bytes:
    """What is signed: never the same bytes as anything else that this or another service signs."""
    return b"cloakwork receipt 1\0" + canonical


def digest(salt: bytes, kind: Literal["request", "answer"], body: bytes) -> str:
    """The salted digest of a body, hex; whoever lacks the salt cannot try out what the body may be."""
    assert len(salt) == SALT_BYTES, "a salt is 16 bytes"
    hashed = hashlib.sha256(b"cloakwork %s 1\0" % kind.encode() + salt)
    hashed.update(body)
    return hashed.hexdigest()


def compact(canonical: bytes, signature: bytes) -> str:
    """Write a receipt as one header, column or line."""
    return f"{encode64(canonical)}.{encode64(signature)}"


def parse(text: str) -> Receipt:
    """Read a receipt without asking who signed it; nothing is taken but the one way to write it.

    Raises:
        ReceiptError: `receipt_invalid`.
    """
    return _parse(text)[0]


def verify(text: str, keys: Keys) -> Receipt:
    """Read a receipt that one of these keys signed; its sums are right.

    Raises:
        ReceiptError: `receipt_invalid`, or `receipt_key_unknown` when newer keys may know it.
        ConfigError: `extra_missing`.
    """
    receipt, canonical, signature = _parse(text)
    public = keys.get(receipt.key)
    if public is None:
        raise ReceiptError(
            "receipt_key_unknown",
            f"The receipt is signed by key {receipt.key}, which is not among those given; fetch them anew.",
        )
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ModuleNotFoundError:
        raise ConfigError(
            "extra_missing", "Receipts need the package cryptography: pip install 'cloakwork[receipts]'."
        ) from None
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message(canonical))
    except InvalidSignature:
        raise _invalid("was altered: the signature is not over what it says") from None
    return receipt


def recount(receipt: Receipt, salt: bytes, request: bytes, answer: bytes) -> dict[str, int]:
    """Count what the bodies show, by unit, and hold the receipt to it.

    Args:
        receipt: one that was verified.
        salt: what came beside the answer.
        request: the body as it was sent.
        answer: the body as it arrived.

    Raises:
        InputError: `bad_request`, the salt is not one.
        ReceiptError: `receipt_invalid`, the receipt is for other bodies or says other quantities.
    """
    if len(salt) != SALT_BYTES:
        raise InputError("bad_request", "A salt is 16 bytes, 32 hexadecimal digits.", param="salt")
    if digest(salt, "request", request) != receipt.request:
        raise _invalid("is for another request, or the salt is another's")
    if digest(salt, "answer", answer) != receipt.answer:
        raise _invalid("is for another answer")
    counted = {"call": 1, "byte": len(request) + len(answer)}
    if receipt.mode == Mode.ENCRYPTED:
        counted |= _ciphertexts(request, answer)
    for unit, count in counted.items():
        stated = receipt.quantities.get(unit, 0)
        if stated != count:
            raise _invalid(f"states {stated} of {unit} where the bodies show {count}")
    return counted


def _parse(text: str) -> tuple[Receipt, bytes, bytes]:
    """A receipt, its canonical bytes and its signature."""
    if not isinstance(text, str) or len(text) > LONGEST_TEXT:
        raise _invalid("is none")
    try:
        canonical, signature = map(decode64, text.split("."))
        members = json.loads(canonical.decode("ascii"))
        members["lines"] = tuple(Line(**line) for line in members["lines"])
        receipt = Receipt(**members)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _invalid("was altered, or is none") from None
    if receipt.canonical != canonical or len(signature) != SIGNATURE_BYTES:
        raise _invalid("was altered: it is not written the one way that receipts are")
    return receipt, canonical, signature


def _ciphertexts(request: bytes, answer: bytes) -> dict[str, int]:
    from cloakwork_privacy.ckks.frames import peek
    from cloakwork_privacy.errors import PrivacyError

    try:
        sent, received = peek(request), peek(answer)
    except PrivacyError:
        raise _invalid("is of an encrypted call, and the bodies are no frames") from None
    # The first part of an answer is the digest of its request; every other part is a ciphertext.
    return {"record": sent.records, "ciphertext": sent.count + received.count - 1}


def _is_name(value: Any) -> bool:
    return (
        isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isascii() and value.isprintable()
    )


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and HEX.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _invalid(what: str) -> ReceiptError:
    return ReceiptError("receipt_invalid", f"The receipt {what}.")
