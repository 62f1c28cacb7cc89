"""What compiling found out: for the model's owner to judge, and for its card."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Layer", "ProgramReport", "Report"]


@dataclass(frozen=True)
class Layer:
    """One activation and the polynomial in its place.

    Attributes:
        size: Numbers it is applied to.
        activation: Its name.
        degree: Of the polynomial.
        low, high: The range calibration saw.
        error: Largest difference on calibration's values.
    """

    size: int
    activation: str
    degree: int
    low: float
    high: float
    error: float


@dataclass(frozen=True)
class ProgramReport:
    """One program.

    Attributes:
        poly_degree, modulus_bits: Encryption parameters, secure at 128 bits.
        depth: Products of ciphertexts in a row.
        operations: How often each is done.
        predicted_ms, measured_ms: Server's CPU time for one request, parsing and writing included in the
            measured one.
        records: How many there were in that request, which is as many as a ciphertext holds.
        key_bytes, request_bytes, answer_bytes: On the wire; of that request.
        predicted_error, measured_error: Largest error of a logit by encryption, in calibration records.
        guaranteed: Whether every record within the signature's limit is certain not to exceed the modulus.
    """

    poly_degree: int
    modulus_bits: tuple[int, ...]
    depth: int
    operations: dict[str, int]
    predicted_ms: float
    measured_ms: float
    records: int
    key_bytes: int
    request_bytes: int
    answer_bytes: int
    predicted_error: float
    measured_error: float
    guaranteed: bool


@dataclass(frozen=True)
class Report:
    """A model and its programs.

    Attributes:
        inputs, outputs: Numbers in and logits out.
        layers: In order.
        approximation_error: Largest difference between the module's logits and its polynomials', on the
            calibration records.
        agreement: Share of those records whose decision (largest logit, or sign of the only one) is the same;
            None where outputs are not decisions.
        float_accuracy, accuracy: Share of decisions that are right, of the module and of its polynomials;
            None without labels.
        programs: By purpose.
        batch_from: Records from which on one throughput request takes less time than as many latency ones.
    """

    inputs: int
    outputs: int
    layers: tuple[Layer, ...]
    approximation_error: float
    agreement: float | None
    float_accuracy: float | None
    accuracy: float | None
    programs: dict[str, ProgramReport]
    batch_from: int | None

    def to_json(self) -> bytes:
        """For a file beside the programs."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Report:
        """Reads what `to_json` wrote.

        Raises:
            ValueError, TypeError, KeyError: These are not the bytes of a report.
        """
        fields: dict[str, Any] = json.loads(data)
        fields["layers"] = tuple(Layer(**layer) for layer in fields["layers"])
        fields["programs"] = {
            name: ProgramReport(**{**program, "modulus_bits": tuple(program["modulus_bits"])})
            for name, program in fields["programs"].items()
        }
        return cls(**fields)
