"""SEAL objects to bytes and back.

SEAL's binding saves to and loads from paths only. On Linux a memory file stands in for the disk, so that
neither a secret nor a megabyte of keys touches it. A system without memory files gets a file of mode 0600,
removed after use: in /dev/shm, which is memory, where there is one, else in the folder for temporary files.
There the bytes of a secret key may stay on the disk after the file is gone; encrypt that disk.

A SEAL stream is a 16-byte header (magic, header size, version, compression, reserved, total size) and a
body. SEAL writes bodies zstd-compressed. What comes from outside is never such a stream: see `layout`.
"""

from __future__ import annotations

import os
import struct
import tempfile
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import tenseal.sealapi as seal
import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SEED_BYTES", "body", "dump", "header", "load", "looks_like_secret_key"]

_HEADER_BYTES: Final = 16
SEED_BYTES: Final = 64  # Blake2xb's seed, from which SEAL expands a seeded polynomial.

_HEADER: Final = struct.Struct("<HBBBBHQ")
_MAGIC: Final = 0xA15E
_UNCOMPRESSED: Final = 0
_ZSTD: Final = 2
_WINDOW: Final = 1 << 23  # SEAL compresses at zstd's default level, whose window is 2 MiB.
_MEMORY: Final = "/dev/shm"  # noqa: S108 - a file in it gets a random name, and mode 0600
_PLAINTEXT_HEAD: Final = 48  # A plaintext's parms_id, coefficient count and scale, before its data's header.


@contextmanager
def _scratch() -> Iterator[tuple[int, str]]:
    """A file descriptor and a path to the same private file, gone afterwards."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("cloakwork")
        try:
            yield descriptor, f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        folder = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        with tempfile.NamedTemporaryFile(prefix="cloakwork-", dir=folder) as file:  # created with mode 0600
            yield file.fileno(), file.name


def _save(item: Any) -> bytes:
    with _scratch() as (descriptor, path):
        item.save(path)
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, size, 0)


@cache
def _version() -> tuple[int, int]:
    """The version the linked SEAL writes, the only one it surely reads."""
    _, _, major, minor, *_ = _HEADER.unpack_from(_save(seal.Plaintext()))
    return major, minor


def header(body_bytes: int) -> bytes:
    """The header of an uncompressed stream with a body of so many bytes."""
    return _HEADER.pack(_MAGIC, _HEADER_BYTES, *_version(), _UNCOMPRESSED, 0, _HEADER_BYTES + body_bytes)


def dump(item: Any, body_bytes: int) -> bytes:
    """Saves a SEAL object.

    Args:
        item: Anything of SEAL's with `save`.
        body_bytes: Exact size of the uncompressed body.

    Returns:
        The body, uncompressed, without its header.

    Raises:
        RuntimeError: SEAL wrote a body of another size: this version of SEAL is not the one we know.
    """
    saved = body(item, body_bytes + 1)
    if len(saved) != body_bytes:
        raise RuntimeError(
            "SEAL wrote an object of an unknown layout; use TenSEAL 0.3.16 or a version tested since"
        )
    return saved


def body(item: Any, most: int) -> bytes:
    """At most the first `most` bytes of the uncompressed body that SEAL saves of an object."""
    return _decompress(_save(item), most)


def load(item: Any, context: Any, words: NDArray[np.uint8]) -> None:
    """Loads an uncompressed body, uint8 of any length, into an empty SEAL object.

    Raises:
        RuntimeError, ValueError: SEAL refuses it; its loaders check every residue against its prime.
    """
    with _scratch() as (descriptor, path):
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(header(words.size))
            file.write(words.data)
        item.load(context, path)


def looks_like_secret_key(data: bytes) -> bool:
    """Whether these foreign bytes are SEAL's own stream of a secret key (or of any plaintext)."""
    if len(data) < _HEADER_BYTES:
        return False
    magic, size, _, _, compression, _, _ = _HEADER.unpack_from(data)
    if magic != _MAGIC or size != _HEADER_BYTES or compression not in {_UNCOMPRESSED, _ZSTD}:
        return False
    try:
        start = _decompress(data, _PLAINTEXT_HEAD + _HEADER_BYTES)
    except zstandard.ZstdError:
        return False
    # In a plaintext the nested header of its data starts at byte 48; in a ciphertext or a key, elsewhere.
    return start[_PLAINTEXT_HEAD : _PLAINTEXT_HEAD + 3] == struct.pack("<HB", _MAGIC, _HEADER_BYTES)


def _decompress(data: bytes, most: int) -> bytes:
    """At most the first `most` bytes of a stream's body, whatever the stream claims or would expand to."""
    if data[5] == _UNCOMPRESSED:
        return data[_HEADER_BYTES : _HEADER_BYTES + most]
    pieces = []
    with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(data[_HEADER_BYTES:]) as reader:
        while most and (piece := reader.read(most)):
            pieces.append(piece)
            most -= len(piece)
    return b"".join(pieces)
