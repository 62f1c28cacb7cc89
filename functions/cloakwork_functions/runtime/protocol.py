"""What the gateway asks of whatever runs models, be it processes on this machine or a cloud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from cloakwork.wire import Mode
    from cloakwork_functions.registry import Artifact

__all__ = ["Call", "Runtime"]


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


class Runtime(Protocol):
    """An engine."""

    async def run(self, call: Call, timeout: float) -> bytes:
        """Run a call: float32 elements of the outputs, or an answer frame.

        A call whose process dies is run again in another, so a call may run twice but is answered once.
        Cancelling the task gives up the call.

        Args:
            call: what to run.
            timeout: seconds it may take, waiting included.

        Raises:
            PrivacyError: the ciphertexts or keys cannot be used.
            BusyError: `overloaded`, the queue is full.
            DeadlineError: `deadline_exceeded`.
            ServerError: `worker_failed` or `model_unavailable`.
        """

    async def close(self) -> None:
        """Stop everything that runs; calls still waiting fail."""
