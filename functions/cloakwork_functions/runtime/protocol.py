"""What the gateway asks of whatever runs models, be it processes on this machine or a cloud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cloakwork.wire import Mode
    from cloakwork_functions.registry import Artifact

__all__ = ["Call", "Computed", "Runtime", "unheard"]


def unheard() -> None:
    """Tell nobody that a call begins."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one model in one mode, already checked.

    Attributes:
        artifact: the exact version to run.
        mode: the privacy mode.
        body: in plaintext and anonymized mode, the records' float32 elements, little-endian, in C
            order; in encrypted mode a request frame, or nothing to have only the keys checked.
        records: how many records the body holds.
        keys: the file of the caller's evaluation keys (encrypted mode), named by their fingerprint.
    """

    artifact: Artifact
    mode: Mode
    body: bytes
    records: int
    keys: Path | None = None


class Computed(NamedTuple):
    """What came of a call.

    Attributes:
        body: float32 elements of the outputs, or an answer frame.
        microseconds: the call's share of the computing, by records if it ran together with others; that of
            runs that came to nothing is not in it.
    """

    body: bytes
    microseconds: int


class Runtime(Protocol):
    """An engine."""

    async def run(self, call: Call, timeout: float, begun: Callable[[], None] = unheard) -> Computed:
        """Run a call.

        A call whose process dies is run again in another, so a call may run twice but is answered once.
        Cancelling the task gives up the call.

        Args:
            call: what to run.
            timeout: seconds it may take, waiting included.
            begun: called when the call leaves the queue, again if it runs again.

        Raises:
            PrivacyError: the ciphertexts or keys cannot be used.
            BusyError: `overloaded`, the queue is full.
            DeadlineError: `deadline_exceeded`.
            ServerError: `worker_failed` or `model_unavailable`.
        """

    async def close(self) -> None:
        """Stop everything that runs; calls still waiting fail."""
