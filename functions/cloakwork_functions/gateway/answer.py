"""What a call gave, as it goes out, and as it is kept for whoever repeats the call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from cloakwork import tensor
from cloakwork.wire import Header, Media, RunAnswer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cloakwork.wire import Mode
    from cloakwork_functions.ledger import Ended

__all__ = ["Answer", "encode"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A body, its media type, and the headers that say what it cost."""

    body: bytes
    media: str
    headers: dict[str, str]

    def ended(self, end: Ended) -> Answer:
        """The same with what it cost, and the receipt."""
        paid = {Header.COST: str(end.amount)}
        if end.receipt is not None:
            paid[Header.RECEIPT] = end.receipt
        return self.saying(paid)

    def saying(self, headers: dict[str, str]) -> Answer:
        """The same with more headers."""
        return Answer(self.body, self.media, {**self.headers, **headers})

    def pack(self) -> bytes:
        """As it is kept."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def unpack(cls, data: bytes) -> Answer:
        """As it was kept."""
        return msgspec.msgpack.decode(data, type=cls)


def encode(output: NDArray[np.float32] | bytes, accept: str, model: str, mode: Mode, run: str) -> Answer:
    """Write an answer as its caller accepts it: a frame is one, an array becomes a tensor or JSON."""
    headers = {Header.MODEL: model, Header.MODE: str(mode), Header.REQUEST_ID: run}
    if isinstance(output, bytes):
        return Answer(output, Media.FRAME, headers)
    if Media.TENSOR in accept:
        return Answer(tensor.encode(output), Media.TENSOR, headers)
    return Answer(msgspec.json.encode(RunAnswer(output.tolist(), model, mode, run)), Media.JSON, headers)
