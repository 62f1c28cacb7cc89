"""The server's side of encrypted inference: program x evaluation keys x request -> answer.

No binding of SEAL releases the interpreter lock: run one process per core, forked after the `Evaluator` is
made, so that the encoded constants are shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import answer, frames, layout
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.encoder import encode
from cloakwork_privacy.ckks.noop import NoopCipher
from cloakwork_privacy.ckks.public import EvaluationKeys
from cloakwork_privacy.ckks.seal import SealCipher
from cloakwork_privacy.compiler.circuit import walk
from cloakwork_privacy.compiler.program import Program
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EvaluationKeys", "Evaluator"]


class Evaluator:
    """Runs one program. Its constants are encoded once, here."""

    def __init__(self, program: Program) -> None:
        """Checks the circuit in the clear, then encodes its constants.

        Raises:
            PrivacyError: `program_invalid`: scales, levels or keys do not work out.
        """
        self.signature = program.signature
        self._circuit = program.circuit
        self._ring = context(program.signature.parameters)
        _check(program, self._ring.primes)
        self._constants = {
            name: encode(self._ring, self.signature.packing, constant.vector, constant.scale, constant.level)
            for name, constant in program.circuit.constants.items()
        }
        factors = {step.constant for step in program.circuit.operations if step.name == "multiply_plain"}
        if any(self._constants[name].is_zero() for name in factors if name is not None):
            # SEAL refuses the product at run time: it would show the answer to anyone.
            raise PrivacyError(
                "program_invalid", "Weights round to zero at their scale. Compile at a larger scale."
            )

    @classmethod
    def load(cls, folder: str | Path) -> Evaluator:
        """An evaluator of a saved program. Raises as `Program.load` and the constructor do."""
        return cls(Program.load(folder))

    def parse_keys(self, data: bytes) -> EvaluationKeys:
        """Reads a client's EVALUATION_KEYS frame; keep the result for as long as the client may call.

        Raises:
            PrivacyError: As `EvaluationKeys.parse`.
        """
        return EvaluationKeys.parse(self.signature, data)

    def run(self, request: bytes, keys: EvaluationKeys) -> bytes:
        """Answers a REQUEST frame with an ANSWER frame that names it, record by record.

        Raises:
            PrivacyError: `frame_invalid`, `secret_key_refused`, `wrong_program`, `wrong_keys`,
                `keys_for_another_program`, `too_many_records`, `ciphertext_invalid`.
        """
        signature = self.signature
        kind = layout.ciphertext(self._ring, signature.parameters.levels, signature.scale, seeded=True)
        frame = frames.decode(
            request, frames.Kind.REQUEST, most_parts=signature.max_records, most_bytes=2 * kind.wire_bytes
        )
        if keys.program != signature.digest:
            raise PrivacyError(
                "keys_for_another_program", "These keys belong to another program than this one."
            )
        if frame.program.hex() != signature.digest:
            raise PrivacyError(
                "wrong_program",
                "This request was sealed for another program; fetch its signature and seal it again.",
            )
        if frame.keys.hex() != keys.fingerprint:
            raise PrivacyError("wrong_keys", "This request was sealed under other keys than those uploaded.")
        if not frame.parts:
            raise PrivacyError("ciphertext_invalid", "The request holds no record.")
        # All records are read before any is computed: a bad one costs nobody the good ones' time.
        sealed = [
            kind.unpack(part, seal.Ciphertext(), self._ring, "ciphertext_invalid") for part in frame.parts
        ]
        parts = (frames.fingerprint(request), *(self._answer(record, keys) for record in sealed))
        return frames.encode(frames.Frame(frames.Kind.ANSWER, frame.program, frame.keys, parts))

    def _answer(self, record: Any, keys: EvaluationKeys) -> bytes:
        result = walk(self._circuit, SealCipher(self._ring, keys), self._constants, record)
        return answer.write(self._ring, self.signature, keys, result)


def _check(program: Program, primes: tuple[int, ...]) -> None:
    """Walks the circuit in the clear on a record of zeros, and compares what comes out with the signature."""
    signature = program.signature
    capacity = signature.parameters.capacity(signature.packing)
    cipher = NoopCipher(primes[: signature.parameters.levels], signature.packing, signature.rotations)
    try:
        constants = {
            name: cipher.encode(constant.vector, constant.scale, constant.level, capacity)
            for name, constant in program.circuit.constants.items()
        }
        request = cipher.encode(np.zeros(1), signature.scale, signature.parameters.levels, capacity)
        result = walk(program.circuit, cipher, constants, request)
    except (ValueError, LookupError, TypeError) as error:
        raise PrivacyError(
            "program_invalid", f"The circuit does not work out: {error}. Compile it again."
        ) from None
    if (result.level, result.scale, result.polynomials) != (1, signature.answer_scale, 2):
        raise PrivacyError(
            "program_invalid",
            "The circuit's answer has another level or scale than announced. Compile it again.",
        )
