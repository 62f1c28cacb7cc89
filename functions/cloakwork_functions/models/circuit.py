"""What a compiled program answers, computed in the clear: how the encrypted mode is measured here.

Encrypted evaluation differs by the scheme's noise alone, below a thousandth in every probability seen so far;
and whoever trains has no business with the secret keys that the real thing would take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.noop import NoopCipher
from cloakwork_privacy.compiler.circuit import walk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloakwork_privacy.compiler.program import Program

__all__ = ["outputs"]


def outputs(program: Program, records: NDArray[np.float32]) -> NDArray[np.float64]:
    """Run the circuit on records (n, *input_shape) as a client and a server would together.

    Returns:
        Probabilities, shape (n, *output_shape).
    """
    signature, parameters = program.signature, program.signature.parameters
    capacity = parameters.capacity(signature.packing)
    primes = context(parameters).primes[: parameters.levels]
    cipher = NoopCipher(primes, signature.packing, signature.rotations)
    constants = {
        name: cipher.encode(constant.vector, constant.scale, constant.level, capacity)
        for name, constant in program.circuit.constants.items()
    }
    take = list(signature.take)
    logits = []
    for record in records:
        (packed,) = signature.prepare(record[None])
        request = cipher.encode(packed, signature.scale, parameters.levels, capacity)
        values = walk(program.circuit, cipher, constants, request).values
        # The coefficients that a slot-packed answer keeps are the averages over slots a period apart.
        kept = values if signature.period is None else values.reshape(-1, signature.period).mean(axis=0)
        logits.append(kept[take])
    return signature.finished(np.array(logits))
