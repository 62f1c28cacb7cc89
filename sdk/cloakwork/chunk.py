"""The vocabulary of an upload in chunks: which bytes a chunk brings, and where the upload stands."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import InputError
from .wire import Header

__all__ = ["Chunk", "KeyUpload", "Limit"]

# More digits than any size that is accepted; a longer number is refused before it is read.
FORM = re.compile(r"bytes (?:([0-9]{1,15})-([0-9]{1,15})|\*)/([0-9]{1,15})")


class Limit:
    """Sizes that both sides know, in bytes.

    A key set of at most one chunk goes up in one request; an operator may take less than the largest.
    """

    EVALUATION_KEYS = 128 << 20
    CHUNK = 4 << 20


@dataclass(frozen=True)
class KeyUpload:
    """Where an upload of evaluation keys stands.

    Attributes:
        fingerprint: SHA-256 of the whole key set, in hexadecimal.
        received: bytes the service holds, from the first on; the next chunk begins here.
        complete: whether they are all here, checked, and of use.
    """

    fingerprint: str
    received: int
    complete: bool


@dataclass(frozen=True)
class Chunk:
    """Bytes `start` to `end` of `total`, the end not included: what the header Content-Range says.

    An empty chunk, all sent and nothing more to send, asks for the check that ends an upload.
    """

    start: int
    end: int
    total: int

    @classmethod
    def parse(cls, text: str) -> Chunk:
        """Read a header: `bytes 0-99/1000`, or `bytes */1000` for the empty chunk at the end.

        Raises:
            InputError: `upload_range_invalid`, it is none, or reaches beyond the total.
        """
        found = FORM.fullmatch(text)
        if found is None:
            raise _invalid('must read "bytes FIRST-LAST/TOTAL", or "bytes */TOTAL" with an empty body')
        total = int(found[3])
        if found[1] is None:
            return cls(total, total, total)
        start, end = int(found[1]), int(found[2]) + 1
        if not start < end <= total:
            raise _invalid("must name bytes in order, the last of them before the total")
        return cls(start, end, total)

    @property
    def size(self) -> int:
        """How many bytes it is."""
        return self.end - self.start

    def __str__(self) -> str:
        """Write the header."""
        place = f"{self.start}-{self.end - 1}" if self.size else "*"
        return f"bytes {place}/{self.total}"


def _invalid(rule: str) -> InputError:
    return InputError("upload_range_invalid", f"Content-Range {rule}.", param=Header.CONTENT_RANGE)
