"""The server's side of encrypted inference: program x evaluation keys x request -> answer.

No binding of SEAL releases the interpreter lock: run one process per core, forked after the `Evaluator` is
made, so that the encoded constants are shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cloakwork_privacy.ckks import answer, bundle, frames, residues
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.encoder import encode
from cloakwork_privacy.ckks.noop import NoopCipher
from cloakwork_privacy.ckks.public import EvaluationKeys
from cloakwork_privacy.ckks.seal import SealCipher
from cloakwork_privacy.ckks.sealed import Sealed
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
        self._constants = self._encoded(program)
        self._sealed = Sealed(self._ring, program.signature.scale)

    def _encoded(self, program: Program) -> dict[str, Any]:
        signature, constants = program.signature, program.circuit.constants
        if signature.packing == "features":
            return {name: bundle.encode(constant) for name, constant in constants.items()}
        encoded = {
            name: encode(self._ring, signature.packing, constant.vector, constant.scale, constant.level)
            for name, constant in constants.items()
        }
        factors = {step.constant for step in program.circuit.operations if step.name == "multiply_plain"}
        if any(encoded[name].is_zero() for name in factors if name is not None):
            # SEAL refuses the product at run time: it would show the answer to anyone.
            raise PrivacyError(
                "program_invalid", "Weights round to zero at their scale. Compile at a larger scale."
            )
        return encoded

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
        signature, frame = self.signature, self._read(request, keys)
        # All ciphertexts are read before any is computed: a bad one costs nobody the good ones' time.
        if signature.packing == "features":
            registers = [bundle.parse(self._sealed, frame.parts)]
            parts = self._bundled(registers, keys, frame.records)
        else:
            sealed = [self._sealed.unpack(part) for part in frame.parts]
            parts = [self._answer(record, keys) for record in sealed]
        sent = (frame.fingerprint, *parts)
        return frames.encode(frames.Frame(frames.Kind.ANSWER, frame.program, frame.keys, sent, frame.records))

    def _read(self, request: bytes, keys: EvaluationKeys) -> frames.Frame:
        """The frame of a request, for this program and under these keys, but for its ciphertexts."""
        signature = self.signature
        frame = frames.decode(
            request,
            frames.Kind.REQUEST,
            most_parts=signature.sealed(signature.max_records),
            most_bytes=2 * self._sealed.wire_bytes,
            most_records=signature.max_records,
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
        if not frame.records or len(frame.parts) != signature.sealed(frame.records):
            raise PrivacyError(
                "ciphertext_invalid",
                f"{len(frame.parts)} ciphertexts are no request of {frame.records} records here.",
            )
        return frame

    def _answer(self, record: Any, keys: EvaluationKeys) -> bytes:
        result = walk(self._circuit, SealCipher(self._ring, keys), self._constants, record)
        return answer.write(self._ring, self.signature, keys, result)

    def _bundled(self, registers: list[bundle.Bundle], keys: EvaluationKeys, records: int) -> list[bytes]:
        """Takes the one register out of its list, so that it is gone once the circuit has read it."""
        cipher = bundle.BundleCipher(self._ring, keys)
        result = walk(self._circuit, cipher, self._constants, registers.pop())
        return [
            answer.write(
                self._ring,
                self.signature,
                keys,
                residues.make(self._ring, result.residues[place], result.scale),
                records,
            )
            for place in self.signature.take
        ]


def _check(program: Program, primes: tuple[int, ...]) -> None:
    """Walks the circuit in the clear on a record of zeros, and compares what comes out with the signature."""
    signature = program.signature
    capacity = signature.parameters.capacity(signature.packing)
    cipher = NoopCipher.of(signature, primes)
    try:
        constants = {
            name: cipher.encode(constant.vector, constant.scale, constant.level, capacity)
            for name, constant in program.circuit.constants.items()
        }
        packed = np.zeros((len(signature.gather), 1) if signature.packing == "features" else 1)
        request = cipher.request(packed, signature.scale, 1 if packed.ndim > 1 else capacity)
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
    if packed.ndim > 1 and max(signature.take) >= len(result.values):
        raise PrivacyError(
            "program_invalid", "The circuit has fewer outputs than the signature takes. Compile it again."
        )
