"""From chosen scales to a program: the circuit a server runs, and the signature its clients read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cloakwork_privacy.compiler.circuit import Circuit, Constant, Name, Operation
from cloakwork_privacy.compiler.program import Program, circuit_digest
from cloakwork_privacy.compiler.signature import Signature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloakwork_privacy.compiler.choose import Choice
    from cloakwork_privacy.compiler.scales import Operand
    from cloakwork_privacy.compiler.signature import Finish
    from cloakwork_privacy.compiler.standardise import Standard

__all__ = ["Interface", "lower"]


@dataclass(frozen=True)
class Interface:
    """What a model takes and gives, whatever its program.

    Attributes:
        input_shape: Of one record.
        standard: What the client does to it.
        features: Which of its numbers the network reads, in the network's order.
        outputs: Number of logits.
        finish: What the client makes of them.
    """

    input_shape: tuple[int, ...]
    standard: Standard
    features: tuple[int, ...]
    outputs: int
    finish: Finish

    def fields(self) -> dict[str, Any]:
        """As a signature has them."""
        return {
            "input_shape": self.input_shape,
            "output_shape": (2,) if self.finish == "binary" else (self.outputs,),
            "shift": tuple(self.standard.shift.tolist()),
            "gain": tuple(self.standard.gain.tolist()),
            "limit": float(self.standard.limit),
            "finish": self.finish,
        }


def lower(choice: Choice, interface: Interface, *, answer_limit: float, max_records: int) -> Program:
    """The program of a choice.

    Args:
        choice: What was chosen.
        interface: Of the model.
        answer_limit: Largest |logit| of an honest answer.
        max_records: Most records in one request; a bundle takes as many as a ciphertext has slots.
    """
    slots, arrangement, placed = choice.parameters.slots, choice.arrangement, choice.placed
    bundle = arrangement.period == 0
    circuit = _circuit(choice, fill=None if bundle else slots)
    rotations = sorted(placed.rotations)
    signature = Signature(
        parameters=choice.parameters,
        packing="features" if bundle else "slots",
        gather=tuple(-1 if place < 0 else interface.features[place] for place in arrangement.gather),
        scale=choice.scale.input_scale,
        rotations=tuple(rotations),
        # Each key at the lowest level it serves: what is above it is neither made nor sent.
        rotation_levels=tuple(placed.rotations[rotation] for rotation in rotations),
        relinearise_level=placed.relinearise,
        answer_scale=placed.scale,
        answer_limit=float(answer_limit),
        period=slots if bundle else arrangement.period,
        take=arrangement.take,
        max_records=slots if bundle else max_records,
        circuit=circuit_digest(circuit),
        **interface.fields(),
    )
    return Program(signature, circuit)


def _circuit(choice: Choice, *, fill: int | None) -> Circuit:
    """Operations, and constants under names of their own; a number for all slots is written out."""
    constants: dict[str, Constant] = {}
    operations = []
    for name, of, operand, rotation in choice.placed.operations:
        constant = None
        if operand is not None:
            constant = f"c{len(constants):04d}"
            constants[constant] = Constant(_vector(operand, fill), operand.scale, operand.level)
        operations.append(Operation(cast("Name", name), of, constant, rotation or None))
    return Circuit(tuple(operations), constants)


def _vector(operand: Operand, fill: int | None) -> NDArray[np.float64]:
    if fill is not None and operand.vector.size == 1:
        return np.full(fill, operand.vector.item())
    return np.ascontiguousarray(operand.vector, np.float64)
