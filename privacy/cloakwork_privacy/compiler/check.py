"""A program judged by running it: in the clear on all of calibration, encrypted on a few records.

The encrypted run makes keys, uses them once and forgets them. It is the model's owner who compiles, on
records of the owner's.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np
from threadpoolctl import threadpool_limits

from cloakwork_privacy.ckks.secret import SecretKeys
from cloakwork_privacy.compiler import clear
from cloakwork_privacy.compiler.cost import transfer
from cloakwork_privacy.compiler.report import ProgramReport
from cloakwork_privacy.errors import PrivacyError
from cloakwork_privacy.evaluate import Evaluator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloakwork_privacy.compiler.program import Program

__all__ = ["SIGMAS", "check"]

SIGMAS: Final = 6.0
"""From a deviation to an error that is never seen exceeded."""

_CLEAR: Final = 64
_ENCRYPTED: Final = 4
_EXACT: Final = 1e-6  # of the largest logit


def check(
    program: Program,
    records: NDArray[np.float64],
    expected: NDArray[np.float64],
    *,
    milliseconds: float,
    deviation: float,
    guaranteed: bool,
) -> ProgramReport:
    """Runs a program and reports.

    Args:
        program: What to run.
        records: (n, *input_shape), calibration.
        expected: (n, outputs), what the network of polynomials makes of them.
        milliseconds: Predicted, of the circuit.
        deviation: Predicted, of a logit.
        guaranteed: As in `Plan`.

    Raises:
        PrivacyError: `program_invalid`: the circuit in the clear differs from the network, or the encrypted
            run by more than predicted. Either is a defect of the compiler.
    """
    some = slice(None, None, max(1, len(records) // _CLEAR))
    reach = max(float(np.abs(expected).max()), 1.0)
    _close("in the clear", clear.logits(program, records[some]), expected[some], _EXACT * reach)
    signature = program.signature
    error = SIGMAS * deviation
    bundle = signature.packing == "features"
    count = min(len(records), signature.max_records if bundle else _ENCRYPTED)
    server, keys = Evaluator(program), SecretKeys.generate(signature)
    public = server.parse_keys(keys.evaluation_keys())
    errors, times, request, reply = [], [], b"", b""
    for start in range(0, count, count if bundle else 1):
        stop = count if bundle else start + 1
        request = keys.seal(records[start:stop])
        with threadpool_limits(1):  # One thread's time is what is reported, and what a worker has.
            began = time.process_time()
            reply = server.run(request, public)
            times.append(time.process_time() - began)
        errors.append(float(np.abs(keys.logits(reply, request) - expected[start:stop]).max()))
    if max(errors) > error:
        raise PrivacyError(
            "program_invalid",
            "The encrypted run errs by more than was predicted; compile with more tolerance, and tell us.",
        )
    return ProgramReport(
        poly_degree=signature.parameters.poly_degree,
        modulus_bits=signature.parameters.modulus_bits,
        depth=_depth(program),
        operations=dict(sorted(Counter(step.name for step in program.circuit.operations).items())),
        predicted_ms=milliseconds + _transfer(program),
        measured_ms=1e3 * float(np.median(times)),
        records=signature.max_records if bundle else 1,
        key_bytes=len(keys.evaluation_keys()),
        request_bytes=len(request),
        answer_bytes=len(reply),
        predicted_error=error,
        measured_error=max(errors),
        guaranteed=guaranteed,
    )


def _close(how: str, computed: NDArray[np.float64], expected: NDArray[np.float64], tolerance: float) -> None:
    if not np.abs(computed - expected).max() <= tolerance:
        raise PrivacyError(
            "program_invalid", f"The circuit run {how} differs from the network it was made from; tell us."
        )


def _transfer(program: Program) -> float:
    signature, parameters = program.signature, program.signature.parameters
    bundle = signature.packing == "features"
    inputs, outputs = (len(signature.gather), len(signature.take)) if bundle else (1, 1)
    return transfer(parameters.poly_degree, parameters.levels, inputs, outputs)


def _depth(program: Program) -> int:
    """Products of ciphertexts in a row."""
    depths = [0]
    for step in program.circuit.operations:
        deepest = max(depths[register] for register in step.of)
        depths.append(deepest + (step.name in {"square", "multiply"}))
    return depths[-1]
