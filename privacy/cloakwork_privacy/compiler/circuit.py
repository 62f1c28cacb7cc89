"""The server's half of a program: operations over ciphertext registers, and their constants."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from cloakwork_privacy.ckks.cipher import Cipher

__all__ = ["Circuit", "Constant", "Operation", "walk"]

Name = Literal[
    "multiply_plain",
    "add_plain",
    "matrix",
    "add",
    "multiply",
    "rotate",
    "square",
    "relinearise",
    "rescale",
    "drop",
]

Register = TypeVar("Register")
Plain = TypeVar("Plain")


@dataclass(frozen=True, slots=True)
class Operation:
    """One step. Register 0 is the request; operation i writes register i + 1.

    Attributes:
        name: What to do.
        of: Registers to read.
        constant: Name of the plaintext operand, where there is one.
        step: Slots to rotate by, to the left: slot s receives slot s + step.
    """

    name: Name
    of: tuple[int, ...]
    constant: str | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    """A plaintext of the program.

    Attributes:
        vector: float64, in the program's packing; of a "matrix" it is the matrix, (outputs, inputs).
        scale: It is encoded at; in the exact arithmetic of the ciphertext it meets.
        level: Primes it is encoded with.
    """

    vector: NDArray[np.float64]
    scale: float
    level: int


@dataclass(frozen=True)
class Circuit:
    """Operations in order; the last register is the answer.

    Attributes:
        operations: The steps.
        constants: Plaintexts by name.
    """

    operations: tuple[Operation, ...]
    constants: Mapping[str, Constant]

    @cached_property
    def spent(self) -> tuple[tuple[int, ...], ...]:
        """For each operation the registers that no later one reads."""
        last = {register: index for index, step in enumerate(self.operations) for register in step.of}
        return tuple(
            tuple(register for register in set(step.of) if last[register] == index)
            for index, step in enumerate(self.operations)
        )

    def to_json(self) -> bytes:
        """Everything but the vectors."""
        written = {
            "operations": [
                {name: value for name, value in asdict(step).items() if value is not None}
                for step in self.operations
            ],
            "constants": {
                name: {"scale": constant.scale, "level": constant.level}
                for name, constant in self.constants.items()
            },
        }
        return json.dumps(written, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes, vectors: Mapping[str, NDArray[np.float64]]) -> Circuit:
        """Reads what `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: These are not the bytes of a circuit and its vectors.
        """
        read = json.loads(data)
        operations = tuple(_operation(index, **step) for index, step in enumerate(read["operations"]))
        constants = {name: Constant(vectors[name], **fields) for name, fields in read["constants"].items()}
        return cls(operations, constants)


def _operation(
    index: int, name: Any, of: list[int], constant: str | None = None, step: int | None = None
) -> Operation:
    if name not in get_args(Name) or any(not 0 <= register <= index for register in of):
        raise ValueError("unknown operation or register")
    return Operation(name, tuple(of), constant, step)


def walk(
    circuit: Circuit, cipher: Cipher[Register, Plain], constants: Mapping[str, Plain], request: Register
) -> Register:
    """Runs a circuit with any cipher.

    Args:
        circuit: What to run.
        cipher: SEAL's, or the one in the clear.
        constants: The circuit's constants as that cipher encodes them.
        request: Register 0.

    Returns:
        The last register.
    """
    registers: list[Any] = [request]
    del request
    for operation, spent in zip(circuit.operations, circuit.spent, strict=True):
        operands: list[Any] = [registers[register] for register in operation.of]
        if operation.constant is not None:
            operands.append(constants[operation.constant])
        if operation.step is not None:
            operands.append(operation.step)
        for register in spent:
            registers[register] = None  # a register may be hundreds of megabytes
        registers.append(getattr(cipher, operation.name)(*operands))
    result: Register = registers[-1]
    return result
