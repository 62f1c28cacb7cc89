"""When to try again, and after how long. Pure policy: no clock, no sleep, no socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import BusyError, DeadlineError, ServerError, TransportError

if TYPE_CHECKING:
    from .errors import CloakworkError

__all__ = ["Retry"]


@dataclass(frozen=True)
class Retry:
    """Exponential backoff with full jitter.

    Every retried call carries the idempotency key of the first, so trying again never charges twice.

    Attributes:
        attempts: tries in all, the first included.
        base: seconds that the first wait is drawn from; doubled each time.
        cap: most seconds of one wait, unless the server asks for more.
    """

    attempts: int = 4
    base: float = 0.25
    cap: float = 8.0

    def delay(self, failure: CloakworkError, attempt: int, jitter: float) -> float | None:
        """Say how long to wait before try `attempt + 1`, or None to give up.

        Args:
            failure: why try number `attempt` (from 1) failed.
            attempt: tries made so far.
            jitter: a number drawn uniformly from [0, 1).
        """
        if isinstance(failure, BusyError) and failure.code == "in_flight":
            # The first try is still at work, or its gateway's end not yet noticed: waiting is all there is to
            # do, and the call's deadline bounds it.
            return failure.retry_after or self.base
        if attempt >= self.attempts or not _passing(failure):
            return None
        if failure.retry_after is not None:
            return failure.retry_after
        return min(self.cap, self.base * 2.0 ** (attempt - 1)) * jitter


def _passing(failure: CloakworkError) -> bool:
    if isinstance(failure, DeadlineError):
        return False
    return isinstance(failure, TransportError | BusyError | ServerError)
