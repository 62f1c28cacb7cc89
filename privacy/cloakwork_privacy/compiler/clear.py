"""A program run in the clear: the same circuit, keys and packing, without encryption and its noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.noop import NoopCipher
from cloakwork_privacy.compiler.circuit import walk

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from cloakwork_privacy.compiler.program import Program
    from cloakwork_privacy.compiler.signature import Signature

__all__ = ["logits"]


def logits(program: Program, records: ArrayLike) -> NDArray[np.float64]:
    """What client and server would compute together of records (n, *input_shape): (n, outputs).

    Raises:
        PrivacyError: As `Signature.prepare`, for a record that clients would not send.
        ValueError: Levels, scales or keys do not work out, or a value exceeds the modulus.
    """
    signature, parameters = program.signature, program.signature.parameters
    capacity = parameters.capacity(signature.packing)
    cipher = NoopCipher.of(signature, context(parameters).primes)
    constants = {
        name: cipher.encode(constant.vector, constant.scale, constant.level, capacity)
        for name, constant in program.circuit.constants.items()
    }
    rows = []
    array = np.asarray(records)
    for start in range(0, len(array), _together(signature)):
        packed = signature.prepare(array[start : start + _together(signature)])
        vector = packed if signature.packing == "features" else packed[0]
        request = cipher.encode(vector, signature.scale, parameters.levels, capacity)
        values = walk(program.circuit, cipher, constants, request).values
        rows.append(_read(signature, values)[: len(array) - start])
    return np.concatenate(rows)


def _together(signature: Signature) -> int:
    """Records in one ciphertext."""
    return signature.max_records if signature.packing == "features" else 1


def _read(signature: Signature, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logits among an answer's values; kept coefficients are averages over slots a period apart."""
    take = list(signature.take)
    if signature.packing == "features":
        return values[take].T
    kept = values if signature.period is None else values.reshape(-1, signature.period).mean(axis=0)
    return kept[take][None]
