"""From a network of polynomials to its programs: which arrangement, which parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from cloakwork_privacy.compiler.arrange import Arrangement, arrange, bundle
from cloakwork_privacy.compiler.choose import DEGREES, Choice, Peaks, choose, measure
from cloakwork_privacy.compiler.rules import MOST_FEATURES, MOST_KEY_BYTES, MOST_REQUEST_BYTES
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloakwork_privacy.compiler.network import Network

__all__ = ["Plan", "Purpose", "plan"]

Purpose = Literal["latency", "throughput"]

_HEADROOM: Final = 4.0  # times what calibration has seen, where the worst case would cost too much
_TELLING: Final = 2.0**16  # to one are the odds that a record that wraps around is found out
_SAFETY_PREMIUM: Final = 1.15  # what holding every accepted record may cost, in time
_SAMPLE: Final = 32


@dataclass(frozen=True)
class Plan:
    """A choice, and what it promises.

    Attributes:
        choice: The program to be.
        guaranteed: Whether no accepted record can exceed the modulus; else none within four times of what
            calibration has seen, and one that does is refused when its answer is opened.
        reach: Largest |logit| of such records.
    """

    choice: Choice
    guaranteed: bool
    reach: float


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
    largest = float(np.abs(network(records)).max())
    fits = False
    for degree in DEGREES:
        for arrangement in _bundles(network) if purpose == "throughput" else arrange(network, degree // 2):
            fits = True
            found = _planned(arrangement, sample, degree, limit, deviation, largest=largest)
            if found is None:
                break  # All arrangements are equally deep.
            if found.choice.placed.error <= deviation and _bearable(found.choice):
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


def _bundles(network: Network) -> list[Arrangement]:
    return [bundle(network)] if network.inputs <= MOST_FEATURES else []


def _planned(
    arrangement: Arrangement,
    sample: NDArray[np.float64],
    degree: int,
    limit: float,
    deviation: float,
    *,
    largest: float,
) -> Plan | None:
    """With room for every accepted record where that is cheap, else for what is like the calibration."""
    gather = np.array(arrangement.gather)
    packed = np.where(gather < 0, 0.0, sample[:, gather])
    rms, width, seen = _walk(arrangement, packed)
    seen = Peaks(_HEADROOM * seen.registers, _HEADROOM * largest)
    _, _, worst = _walk(arrangement, np.where(gather < 0, 0.0, limit)[None], bound=True)
    likely = _least(seen, worst)
    # What wrapped around is anything below the modulus, each logit by itself.
    likely = Peaks(likely.registers, likely.answer * _TELLING ** (1 / len(arrangement.take)))
    found = {}
    for guaranteed, peaks in ((False, likely), (True, worst)):
        sizes = measure(arrangement, rms, width, peaks)
        choice = choose(arrangement, sizes, degree, deviation=deviation)
        if choice is None or (guaranteed and choice.placed.error > deviation):
            break
        reach = worst.answer if guaranteed else min(seen.answer, worst.answer)
        found[guaranteed] = Plan(choice, guaranteed, reach)
    if True in found and (
        found[False].choice.placed.error > deviation
        or _time(found[True]) <= _SAFETY_PREMIUM * _time(found[False])
    ):
        return found[True]
    return found.get(False)


def _walk(
    arrangement: Arrangement, packed: NDArray[np.float64], *, bound: bool = False
) -> tuple[list[float], list[int], Peaks]:
    """Of every register the root mean square in the record where it is largest, the width, and the peak."""
    rms, width, largest = [], [], []
    values = packed
    with np.errstate(over="ignore", invalid="ignore"):  # The worst case of a deep network is beyond floats.
        for values in arrangement.schedule.values(packed, bound=bound):
            rms.append(float(np.sqrt((values**2).mean(axis=1).max())))
            width.append(values.shape[1])
            largest.append(float(np.abs(values).max()))
        if arrangement.period:
            values = values.reshape(len(packed), -1, arrangement.period).mean(axis=1)
    return rms, width, Peaks(np.array(largest), float(np.abs(values).max()))


def _bearable(choice: Choice) -> bool:
    """Whether a client would make such keys and requests."""
    parameters, bundle = choice.parameters, choice.arrangement.period == 0
    request = len(choice.arrangement.gather) * parameters.levels * parameters.poly_degree * 8 if bundle else 0
    return choice.key_bytes <= MOST_KEY_BYTES and request <= MOST_REQUEST_BYTES


def _least(one: Peaks, other: Peaks) -> Peaks:
    return Peaks(np.minimum(one.registers, other.registers), min(one.answer, other.answer))


def _time(found: Plan) -> float:
    return found.choice.placed.milliseconds
