"""Our wire format for everything encrypted: a labelled envelope of byte parts.

Layout, little-endian:

| bytes     | field                                                    |
|-----------|----------------------------------------------------------|
| 4         | magic `CWHE`                                             |
| 1         | version, 2                                               |
| 1         | kind                                                     |
| 2         | count of parts                                           |
| 4         | count of records; 0 in keys                              |
| 32        | SHA-256 digest of the program (signature) it is made for |
| 32        | fingerprint of the evaluation keys; zeros in those keys  |
| 4 x count | size of each part                                        |
| ...       | the parts                                                |
| 32        | SHA-256 of all the bytes before                          |

The first part of an answer is the SHA-256 of the whole request frame that it answers. The other parts of an
answer, and all those of a request, are ciphertexts. Where a program packs a record into a ciphertext, there
are as many of them as records; where it packs features, one ciphertext holds one number of every record.

The checksum finds accidents, not forgers: TLS and the API key answer for those. What the parts hold is
judged by whoever parses them. This module needs neither numpy nor the encryption engine.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from cloakwork_privacy.errors import PrivacyError

__all__ = ["MOST_PARTS", "Frame", "Kind", "Label", "decode", "encode", "fingerprint", "peek"]

_MAGIC: Final = b"CWHE"
_VERSION: Final = 2
_LABEL: Final = struct.Struct("<4sBBHI32s32s")
_DIGEST_BYTES: Final = 32
MOST_PARTS: Final = 0xFFFF
_MOST_RECORDS: Final = 0xFFFFFFFF


class Kind(IntEnum):
    """What a frame carries."""

    REQUEST = 1
    ANSWER = 2
    EVALUATION_KEYS = 3
    SECRET_KEY = 4


@dataclass(frozen=True, slots=True)
class Label:
    """What a frame says of itself, readable from its first 76 bytes.

    Attributes:
        kind: What it carries.
        program: SHA-256 digest of the program's signature, 32 bytes.
        keys: Fingerprint of the evaluation keys it belongs to, 32 bytes; zeros in evaluation keys.
        count: Number of parts.
        records: Number of records; 0 in keys.
    """

    kind: Kind
    program: bytes
    keys: bytes
    count: int
    records: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame; the fields are those of `Label`, with the parts in place of their count.

    Attributes:
        fingerprint: Of a frame that was decoded, `fingerprint` of its bytes; else empty.
    """

    kind: Kind
    program: bytes
    keys: bytes
    parts: tuple[bytes, ...]
    records: int = 0
    fingerprint: bytes = field(default=b"", compare=False)


def encode(frame: Frame) -> bytes:
    """Writes a frame.

    Raises:
        ValueError: A digest is not 32 bytes, or there are more than 65 535 parts or 2^32 - 1 records: a
            caller's mistake.
    """
    if len(frame.program) != _DIGEST_BYTES or len(frame.keys) != _DIGEST_BYTES:
        raise ValueError("a frame's digests are 32 bytes each")
    if len(frame.parts) > MOST_PARTS:
        raise ValueError("a frame has at most 65535 parts")
    if not 0 <= frame.records <= _MOST_RECORDS:
        raise ValueError("a frame has at most 2^32 - 1 records")
    counts = len(frame.parts), frame.records
    label = _LABEL.pack(_MAGIC, _VERSION, frame.kind, *counts, frame.program, frame.keys)
    sizes = struct.pack(f"<{len(frame.parts)}I", *map(len, frame.parts))
    body = b"".join((label, sizes, *frame.parts))
    return body + hashlib.sha256(body).digest()


def peek(data: bytes) -> Label:
    """Reads a frame's label alone: no checksum, no parts, whatever the size.

    Raises:
        PrivacyError: `frame_invalid`, when these are not the first bytes of a frame.
    """
    if len(data) < _LABEL.size:
        raise PrivacyError("frame_invalid", "The frame ends before its label does; send it whole.")
    magic, version, kind, count, records, program, keys = _LABEL.unpack_from(data)
    if magic != _MAGIC:
        raise PrivacyError("frame_invalid", "This is no cloakwork frame; seal the record with the SDK.")
    if version != _VERSION:
        raise PrivacyError("frame_invalid", f"Frame version {version} is unknown here; version 2 is read.")
    try:
        return Label(Kind(kind), program, keys, count, records)
    except ValueError:
        raise PrivacyError("frame_invalid", f"Frame kind {kind} is unknown here.") from None


def decode(
    data: bytes, kind: Kind, *, most_parts: int, most_bytes: int, most_records: int | None = None
) -> Frame:
    """Reads and checks a whole frame; costs one pass of SHA-256 and one copy.

    Args:
        data: The frame, nothing before it and nothing after.
        kind: The only kind to accept.
        most_parts: Most parts to accept.
        most_bytes: Most bytes of one part to accept.
        most_records: Most records to accept; None for as many as parts. In keys there are none.

    Raises:
        PrivacyError: `secret_key_refused` for a secret key where another kind belongs, `too_many_records`
            for a request or answer of more records than `most_records`, else `frame_invalid`.
    """
    label = peek(data)
    if label.kind is not kind:
        if label.kind is Kind.SECRET_KEY:
            raise PrivacyError(
                "secret_key_refused",
                "This frame holds a secret key, which never leaves its owner. Discard it and make new keys.",
            )
        raise PrivacyError("frame_invalid", f"Expected a frame of kind {kind.name}, not {label.kind.name}.")
    _bounded(label, most_parts, most_parts if most_records is None else most_records)
    parts, whole = _parts(data, label.count, most_bytes)
    return Frame(label.kind, label.program, label.keys, parts, label.records, whole)


def _bounded(label: Label, most_parts: int, most_records: int) -> None:
    if label.kind not in {Kind.REQUEST, Kind.ANSWER}:
        most_records = 0
    elif label.records > most_records:
        raise PrivacyError(
            "too_many_records",
            f"{label.records} records in one frame, at most {most_records} are taken; split it.",
        )
    if label.count > most_parts or label.records > most_records:
        raise PrivacyError("frame_invalid", f"The frame has {label.count} parts, at most {most_parts} fit.")


def fingerprint(data: bytes) -> bytes:
    """SHA-256 of a whole frame, 32 bytes: how requests name their keys, and answers their request."""
    return hashlib.sha256(data).digest()


def _parts(data: bytes, count: int, most_bytes: int) -> tuple[tuple[bytes, ...], bytes]:
    """The parts, once every size adds up and the checksum holds; and the fingerprint."""
    start = _LABEL.size + 4 * count
    if len(data) < start + _DIGEST_BYTES:
        raise PrivacyError("frame_invalid", "The frame is cut short; send it whole.")
    sizes = struct.unpack_from(f"<{count}I", data, _LABEL.size)
    if any(size > most_bytes for size in sizes):
        raise PrivacyError("frame_invalid", f"A part is larger than the {most_bytes} bytes taken here.")
    if len(data) != start + sum(sizes) + _DIGEST_BYTES:
        raise PrivacyError("frame_invalid", "The frame's size is not what its label says; send it whole.")
    view = memoryview(data)
    summed = hashlib.sha256(view[:-_DIGEST_BYTES])
    if not hmac.compare_digest(summed.digest(), view[-_DIGEST_BYTES:]):
        raise PrivacyError("frame_invalid", "The frame's checksum is wrong: it was damaged on the way.")
    parts = []
    for size in sizes:
        parts.append(bytes(view[start : start + size]))
        start += size
    summed.update(view[-_DIGEST_BYTES:])  # and so the checksum's pass gives the fingerprint too
    return tuple(parts), summed.digest()
