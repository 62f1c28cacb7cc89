"""Theft of weights: what protection from it costs, and that it is needed and works.

The attack: in a circuit of plaintext products the second polynomial of the bare result is the request's times
the weights, so whoever sealed the request divides one by the other and has every weight, from one answer.
What stops it is a fresh encryption of zero under the client's public key, added before the answer leaves. The
attack is run here on a server without that mask, on one with it, and on answers as they really leave, rounded
as well: it must find the weights on the first alone, or this bench fails.

The cost is the server's CPU time for a request over its time with a mask of plain zeros, which protects
nothing. Of the catalogue's two programs, the one that is slowed more counts.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from encrypted_models import Service
from gateway import held_out, program
from harness import Figure, alone, in_turns, one_thread, write
from rich.console import Console

from cloakwork_privacy.ckks import answer, residues
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.frames import Kind, decode
from cloakwork_privacy.ckks.sealed import Sealed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cloakwork_privacy.ckks.context import Context

ROUNDS = 15
RUNS = {"tumor-risk": 40, "digits": 8}
STOLEN, SAFE = 1e-3, 1e3
MOST_BYTES = 1 << 24


def main() -> None:
    services = {name: Service.of(program(name)) for name in RUNS}
    one_thread()
    found = attacks(services["tumor-risk"], held_out("tumor-risk")[:1])
    figures = [slowdown(name, service, found) for name, service in services.items()]
    write("encrypted_theft", [max(figures, key=lambda figure: figure.value)])


def attacks(service: Service, record: NDArray[Any]) -> str:
    """Steal the weights where that must work, and fail where it must not."""
    bare = error_of_theft(service, record, masked=False, rounded=False)
    masked = error_of_theft(service, record, masked=True, rounded=False)
    real = error_of_theft(service, record, masked=True, rounded=True)
    words = (
        f"weights stolen to {bare:.1g} without the mask; off by {masked:.1g} with it, {real:.1g} rounded too"
    )
    Console().print(words)
    if not (bare < STOLEN and masked > SAFE and real > SAFE):
        raise RuntimeError("the attack does not go as it must")
    return words


def slowdown(name: str, service: Service, found: str) -> Figure:
    """Server time with the mask over without."""
    request = service.keys.seal(held_out(name)[:1])
    run = partial(service.seconds, request, RUNS[name])

    def without() -> float:
        with server(service, masked=False, rounded=True):
            return run()

    pairs = in_turns(ROUNDS, run, without)
    protected, bare = (statistics.median(side) * 1000 for side in zip(*pairs, strict=True))
    note = f"{name}, CPU: {protected:.3g} over {bare:.3g} ms; {found}"
    return alone([ours / theirs for ours, theirs in pairs], "encrypted.theft_slowdown", "x", note)


@contextmanager
def server(service: Service, *, masked: bool, rounded: bool) -> Iterator[None]:
    """Run the server with or without two of its protections."""
    signature = service.program.signature
    ring = context(signature.parameters)
    zeros = residues.make(ring, np.zeros((2, 1, signature.parameters.poly_degree), np.uint64), 1.0)
    with ExitStack() as changes:
        if not masked:
            changes.enter_context(patch.object(answer, "_mask", lambda *_: zeros))
            changes.enter_context(patch.object(answer, "binomial", lambda count: np.zeros(count, np.int64)))
        if not rounded:
            changes.enter_context(patch.object(answer, "_dropped", lambda *_: 0))
        yield


def error_of_theft(service: Service, record: NDArray[Any], *, masked: bool, rounded: bool) -> float:
    """How far the stolen weights are from the program's."""
    signature, ring = service.program.signature, context(service.program.signature.parameters)
    (step,) = (step for step in service.program.circuit.operations if step.name == "multiply_plain")
    weights = service.program.circuit.constants[str(step.constant)]
    request = service.keys.seal(record)
    with server(service, masked=masked, rounded=rounded):
        _, part = decode(service.run(request), Kind.ANSWER, most_parts=2, most_bytes=MOST_BYTES).parts
        result = answer.restore(ring, signature, part)
    (sealed,) = decode(request, Kind.REQUEST, most_parts=1, most_bytes=MOST_BYTES).parts
    sent = Sealed(ring, signature.scale).unpack(sealed)
    stolen = quotient(ring, result, sent) / weights.scale
    return float(np.abs(stolen[: len(weights.vector)] - weights.vector).max())


def quotient(ring: Context, result: Any, sent: Any) -> NDArray[np.float64]:
    """The polynomial that, times the second one sent, gives the second one returned: the encoded weights."""
    prime = ring.primes[0]
    pairs = zip(residues.read(result)[1, 0].tolist(), residues.read(sent)[1, 0].tolist(), strict=True)
    values = np.array([out * pow(into, -1, prime) % prime for out, into in pairs], np.uint64)
    item = residues.make(ring, np.stack((values[None], values[None])), 1.0)
    ring.evaluator.transform_from_ntt_inplace(item)
    words = residues.read(item)[0, 0].astype(np.int64)
    return np.where(words > prime // 2, words - prime, words).astype(np.float64)


if __name__ == "__main__":
    main()
