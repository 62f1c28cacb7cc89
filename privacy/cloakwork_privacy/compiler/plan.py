"""From a network of polynomials to its programs: which arrangement, which parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from cloakwork_privacy.compiler.arrange import Arrangement, arrange, bundle
from cloakwork_privacy.compiler.choose import DEGREES, Choice, Peaks, choose, measure
from cloakwork_privacy.compiler.rules import MOST_KEY_BYTES
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloakwork_privacy.compiler.network import Network

__all__ = ["Plan", "Purpose", "plan"]

Purpose = Literal["latency", "throughput"]

_HEADROOM: Final = 4.0  # times what calibration has seen, where the worst case would cost too much
_SAFETY_PREMIUM: Final = 1.15  # what holding every accepted record may cost, in time
_SAMPLE: Final = 32


@dataclass(frozen=True)
class Plan:
    """A choice, and what it promises.

    Attributes:
        choice: The program to be.
        guaranteed: Whether no accepted record can exceed the modulus; else none within four times of what
            calibration has seen, and one that does is refused when its answer is opened.
    """

    choice: Choice
    guaranteed: bool


def plan(
    network: Network, records: NDArray[np.float64], purpose: Purpose, *, limit: float, deviation: float
) -> Plan:
    """The cheapest plan at the smallest degree that has one.

    Args:
        network: Normalised.
        records: (n, features), standardised calibration records.
        purpose: One record in a request's ciphertext, or one in each slot.
        limit: Largest |feature| a client accepts.
        deviation: Largest predicted deviation of a logit.

    Raises:
        PrivacyError: `model_unsupported`: too deep or too wide for the largest degree.
    """
    sample = records[:: max(1, len(records) // _SAMPLE)][:_SAMPLE]
    fits = False
    for degree in DEGREES:
        for arrangement in [bundle(network)] if purpose == "throughput" else arrange(network, degree // 2):
            fits = True
            found = _planned(arrangement, sample, degree, limit, deviation)
            if found is None:
                break  # All arrangements are equally deep.
            if found.choice.placed.error <= deviation and found.choice.key_bytes <= MOST_KEY_BYTES:
                return found
    if not fits:
        raise PrivacyError(
            "model_unsupported",
            f"A layer is wider than the {DEGREES[-1] // 2} slots of the largest ciphertext; pool or stride "
            "earlier, or use narrower layers.",
        )
    raise PrivacyError(
        "model_unsupported",
        "The network is too deep for the largest parameters, or takes too many keys: use fewer layers, "
        "polynomials of a lower degree, or a larger tolerance.",
    )


def _planned(
    arrangement: Arrangement, sample: NDArray[np.float64], degree: int, limit: float, deviation: float
) -> Plan | None:
    """With room for every accepted record where that is cheap, else for what is like the calibration."""
    gather = np.array(arrangement.gather)
    packed = np.where(gather < 0, 0.0, sample[:, gather])
    slots = None if arrangement.period == 0 else degree // 2
    seen = _peaks(arrangement, packed)
    seen = Peaks(_HEADROOM * seen.registers, _HEADROOM * seen.answer)
    worst = _peaks(arrangement, np.where(gather < 0, 0.0, limit)[None], bound=True)
    found = {}
    for guaranteed, peaks in ((False, _least(seen, worst)), (True, worst)):
        sizes = measure(arrangement.schedule, packed, peaks, slots=slots, averaged=arrangement.averaged)
        choice = choose(arrangement, sizes, degree, deviation=deviation)
        if choice is None or (guaranteed and choice.placed.error > deviation):
            break
        found[guaranteed] = Plan(choice, guaranteed)
    if True in found and _time(found[True]) <= _SAFETY_PREMIUM * _time(found[False]):
        return found[True]
    return found.get(False)


def _peaks(arrangement: Arrangement, packed: NDArray[np.float64], *, bound: bool = False) -> Peaks:
    with np.errstate(over="ignore", invalid="ignore"):  # The worst case of a deep network is beyond floats.
        registers = arrangement.schedule.values(packed, bound=bound)
    answer = registers[-1]
    if arrangement.period:
        answer = answer.reshape(len(packed), -1, arrangement.period).mean(axis=1)
    largest = np.array([np.abs(values).max() for values in registers])
    return Peaks(largest, float(np.abs(answer).max()))


def _least(one: Peaks, other: Peaks) -> Peaks:
    return Peaks(np.minimum(one.registers, other.registers), min(one.answer, other.answer))


def _time(found: Plan) -> float:
    return found.choice.placed.milliseconds
