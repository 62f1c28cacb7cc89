"""Mutations of frames, as a hostile client may send them: of their bytes, and of what they hold.

Half of the mutations damage bytes: flipped bits, extreme values, cuts, additions, splices with other frames,
lies about lengths, counts and digests; mostly the checksum is mended afterwards, so that the code behind it
is reached. Half take the frame apart, and repeat, reorder, drop, exchange, resize or overwrite parts, and put
a consistent frame together again. Now and then up to four are done one after the other.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cloakwork_privacy.ckks.frames import Frame, Kind, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

RECORDS = 2  # of an honest request
MOST_STACKED = 4
MENDED = 0.8
CHECKSUM = 32
MOST_PARTS = 0xFFFF
LABEL = struct.Struct("<4sBBHI32s32s")  # as `ckks.frames` has it
SEEDS = (32, 64)  # bytes, of a request's ciphertext and of a key
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF)
SIZES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PRETENDED = 1 << 20
MOST_BYTES = 12 << 20  # of a frame whose parts are repeated


def mutated(frame: bytes, others: list[bytes], random: Generator) -> bytes:
    """Mutate a frame: its parts or its bytes, mostly once, now and then a few times over."""
    times = min(int(random.geometric(0.6)), MOST_STACKED)
    if random.random() < 0.5:
        apart = taken_apart(frame)
        single = apart.kind is Kind.REQUEST and apart.records == len(apart.parts)
        for _ in range(times):
            apart = PARTS[random.integers(len(PARTS))](apart, others, random)
        if single and apart.kind is Kind.REQUEST and random.random() < MENDED:
            apart = replace(apart, records=len(apart.parts))
        return encode(apart)
    data = bytearray(frame)
    for _ in range(times):
        data = BYTES[random.integers(len(BYTES))](data, others, random)
    if random.random() < MENDED and len(data) > CHECKSUM:
        data[-CHECKSUM:] = hashlib.sha256(data[:-CHECKSUM]).digest()
    return bytes(data)


def taken_apart(frame: bytes) -> Frame:
    """Read one of our own frames."""
    return decode(frame, Kind(frame[5]), most_parts=MOST_PARTS, most_bytes=1 << 30)


def _place(data: bytearray | bytes, random: Generator) -> tuple[int, int]:
    """Choose where a run of bytes begins and ends: mostly short, now and then most of the data."""
    start = int(random.integers(len(data)))
    longest = int(2 ** random.uniform(0, np.log2(len(data) - start + 1)))
    return start, start + max(1, longest)


def flipped(data: bytearray, _: list[bytes], random: Generator) -> bytearray:
    for place in random.integers(len(data), size=random.integers(1, 33)):
        data[place] ^= 1 << int(random.integers(8))
    return data


def overwritten(data: bytearray, _: list[bytes], random: Generator) -> bytearray:
    start, end = _place(data, random)
    data[start:end] = bytes([int(random.choice(EXTREMES))]) * (end - start)
    return data


def randomised(data: bytearray, _: list[bytes], random: Generator) -> bytearray:
    start, end = _place(data, random)
    data[start:end] = random.bytes(end - start)
    return data


def cut(data: bytearray, _: list[bytes], random: Generator) -> bytearray:
    return data[: random.integers(1, len(data) + 1)]


def removed(data: bytearray, _: list[bytes], random: Generator) -> bytearray:
    start, end = _place(data, random)
    return data[:start] + data[end:] or data


def extended(data: bytearray, others: list[bytes], random: Generator) -> bytearray:
    other = others[random.integers(len(others))]
    start, end = _place(other, random)
    return data + (other[start:end] if random.random() < 0.5 else bytes(int(random.integers(1, PRETENDED))))


def inserted(data: bytearray, _: list[bytes], random: Generator) -> bytearray:
    start, end = _place(data, random)
    return data[:start] + random.bytes(min(end - start, 4096)) + data[start:]


def spliced(data: bytearray, others: list[bytes], random: Generator) -> bytearray:
    other = others[random.integers(len(others))]
    start, end = _place(other, random)
    place = start if random.random() < 0.5 else int(random.integers(len(data)))
    data[place : place + end - start] = other[start:end]
    return data


def lied_about_length(data: bytearray, _: list[bytes], random: Generator) -> bytearray:
    """Change one entry of the table of sizes."""
    place = LABEL.size + 4 * int(random.integers(4))
    if len(data) >= place + 4:
        (size,) = struct.unpack_from("<I", data, place)
        lies = (*SIZES, size + 1, size - 1, 2 * size, size // 2, int(random.integers(1 << 32)))
        struct.pack_into("<I", data, place, lies[random.integers(len(lies))] & 0xFFFFFFFF)
    return data


def lied_in_label(data: bytearray, others: list[bytes], random: Generator) -> bytearray:
    """Change magic, version, kind, count, records, program or keys."""
    if len(data) < LABEL.size:
        return data
    fields = list(LABEL.unpack_from(data))
    stranger = LABEL.unpack_from(others[random.integers(len(others))])
    lies: tuple[Any, ...] = (
        random.bytes(4),
        int(random.integers(256)),
        int(random.integers(6)),
        int(random.choice((0, 1, 2, 3, 4, 64, 65, 0xFFFF))),
        int(random.choice((0, 1, RECORDS + 1, 64, 65, 4096, *SIZES))),
        stranger[5],
        random.bytes(32),
    )
    which = int(random.integers(len(fields)))
    fields[which] = lies[which]
    LABEL.pack_into(data, 0, *fields)
    return data


BYTES: tuple[Callable[[bytearray, list[bytes], Generator], bytearray], ...] = (
    flipped,
    overwritten,
    randomised,
    cut,
    removed,
    extended,
    inserted,
    spliced,
    lied_about_length,
    lied_in_label,
)


def repeated(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    times = int(random.choice((2, 3, 40)))
    most = MOST_BYTES // max(1, *map(len, frame.parts), 1)
    return replace(frame, parts=(frame.parts * times)[:most])


def reordered(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    return replace(frame, parts=tuple(frame.parts[place] for place in random.permutation(len(frame.parts))))


def dropped(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    keep = random.random(len(frame.parts)) < 0.5
    return replace(frame, parts=tuple(part for part, kept in zip(frame.parts, keep, strict=True) if kept))


def padded(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    """Add empty parts, a few or as many as the count can say."""
    added = (b"",) * int(random.choice((1, 2, 1000, 0xFFFF)))
    return replace(frame, parts=(*frame.parts, *added)[:0xFFFF])


def exchanged(frame: Frame, others: list[bytes], random: Generator) -> Frame:
    """Put a part of another frame, or another kind of thing, in the place of one."""
    other = taken_apart(others[random.integers(len(others))]).parts
    return _changed(frame, random, lambda _: other[random.integers(len(other))])


def resized(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    def change(part: bytes) -> bytes:
        size = int(random.choice((0, 1, len(part) // 2, len(part) - 1, len(part) + 1, 2 * len(part))))
        return (part + part + b"\0")[:size]

    return _changed(frame, random, change)


def filled(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    """Every residue, and the seed, at an extreme."""
    return _changed(frame, random, lambda part: bytes([int(random.choice(EXTREMES))]) * len(part))


def reseeded(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    """A new seed for the half that is expanded from it, at either end of the part."""

    def change(part: bytes) -> bytes:
        seed = random.bytes(int(random.choice(SEEDS)))
        return part[: -len(seed)] + seed if random.random() < 0.5 else seed + part[len(seed) :]

    return _changed(frame, random, change)


def damaged(frame: Frame, others: list[bytes], random: Generator) -> Frame:
    """Damage the bytes of one part, of unchanged size."""
    damage = (flipped, overwritten, randomised)[random.integers(3)]
    return _changed(frame, random, lambda part: bytes(damage(bytearray(part), others, random)))


def shifted(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    """Every byte of a part moved along."""

    def change(part: bytes) -> bytes:
        place = int(random.integers(len(part)))
        return part[place:] + part[:place]

    return _changed(frame, random, change)


def relabelled(frame: Frame, others: list[bytes], random: Generator) -> Frame:
    """Another kind, program or client."""
    other = taken_apart(others[random.integers(len(others))])
    lies: tuple[dict[str, Any], ...] = (
        {"kind": Kind(int(random.integers(1, 5)))},
        {"records": int(random.choice((0, 1, RECORDS + 1, 65, *SIZES)))},
        {"program": other.program},
        {"keys": other.keys},
        {"keys": random.bytes(32)},
    )
    return replace(frame, **lies[random.integers(len(lies))])


PARTS: tuple[Callable[[Frame, list[bytes], Generator], Frame], ...] = (
    repeated,
    reordered,
    dropped,
    padded,
    exchanged,
    resized,
    filled,
    reseeded,
    damaged,
    damaged,
    shifted,
    relabelled,
)


def _changed(frame: Frame, random: Generator, change: Callable[[bytes], bytes]) -> Frame:
    """Change one part that holds something; a frame without any stays."""
    full = [place for place, part in enumerate(frame.parts) if part]
    if not full:
        return frame
    parts = list(frame.parts)
    place = int(random.choice(full))
    parts[place] = change(parts[place])
    return replace(frame, parts=tuple(parts))
