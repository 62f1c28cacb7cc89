"""How often a key may call: a bucket of N calls that is refilled steadily at N a minute, kept as one number.

Who left it full may make N calls at once and up to 2 N in the first minute; from then on N a minute.

The number is the time at which the bucket is full again. A call moves it on by the time one call takes to
refill, and is refused where that would lie more than a minute ahead. (It is the generic cell rate algorithm
of ITU-T I.371; a clock that steps back can at most ask for a minute's patience.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Standing", "headers", "take"]

MICRO = 1_000_000
WINDOW = 60 * MICRO


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a key stands with a limit after a call.

    Attributes:
        model: whom the limit is for: a model's name, or `*` for all together.
        per_minute: the limit: so many at once, refilled at as many a minute.
        remaining: calls that may follow at once.
        reset: seconds until the bucket is full again.
        retry: seconds until a call is accepted again; 0 if this one was.
        full_at: microseconds, to be kept.
    """

    model: str
    per_minute: int
    remaining: int
    reset: float
    retry: float
    full_at: int


def take(model: str, per_minute: int, full_at: int, now: int) -> Standing:
    """Take one call out of a bucket; `full_at` and `now` are microseconds."""
    step = WINDOW // per_minute if per_minute else WINDOW
    begin = min(max(full_at, now), now + WINDOW)
    after = begin + step
    late = after - now - WINDOW if per_minute else WINDOW
    if late > 0:
        return Standing(model, per_minute, 0, (begin - now) / MICRO, late / MICRO, begin)
    return Standing(model, per_minute, -late // step, (after - now) / MICRO, 0.0, after)


def headers(standings: Iterable[Standing]) -> dict[str, str]:
    """Where a key stands, in the header fields of the IETF's draft and in those that OpenAI's clients read.

    OpenAI's have room for one limit: the one with the fewest calls left.
    """
    known = list(standings)
    if not known:
        return {}
    names = ["key" if each.model == "*" else each.model for each in known]
    least = min(known, key=lambda each: each.remaining)
    return {
        "ratelimit-policy": ", ".join(
            f'"{name}";q={each.per_minute};w=60' for name, each in zip(names, known, strict=True)
        ),
        "ratelimit": ", ".join(
            f'"{name}";r={each.remaining};t={math.ceil(each.reset)}'
            for name, each in zip(names, known, strict=True)
        ),
        "x-ratelimit-limit-requests": str(least.per_minute),
        "x-ratelimit-remaining-requests": str(least.remaining),
        "x-ratelimit-reset-requests": f"{least.reset:.3f}s",
    }
