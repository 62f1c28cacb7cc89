"""A program: its public signature and the server's circuit.

It imports without the encryption engine, and reads signatures without safetensors, which clients lack.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cloakwork_privacy.compiler.circuit import Circuit
from cloakwork_privacy.compiler.signature import Signature
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Program", "Signature"]

_SIGNATURE: Final = "signature.json"
_CIRCUIT: Final = "circuit.json"
_CONSTANTS: Final = "constants.safetensors"


@dataclass(frozen=True)
class Program:
    """What a server runs on ciphertexts.

    Attributes:
        signature: The half that clients get.
        circuit: The half that holds the weights, and stays.
    """

    signature: Signature
    circuit: Circuit

    def save(self, folder: str | Path) -> None:
        """Writes `signature.json`, `circuit.json` and `constants.safetensors`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _SIGNATURE).write_bytes(self.signature.to_json())
        (folder / _CIRCUIT).write_bytes(self.circuit.to_json())
        (folder / _CONSTANTS).write_bytes(_pack(self.circuit))

    @classmethod
    def load(cls, folder: str | Path) -> Program:
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: A file is missing.
            PrivacyError: `program_invalid`, `insecure_parameters`.
        """
        folder = Path(folder)
        signature = Signature.from_json((folder / _SIGNATURE).read_bytes())
        operations, constants = (folder / _CIRCUIT).read_bytes(), (folder / _CONSTANTS).read_bytes()
        try:
            circuit = Circuit.from_json(operations, _unpack(constants))
        except (ValueError, TypeError, KeyError):
            raise PrivacyError(
                "program_invalid", f"The circuit in {folder} is damaged; publish it again."
            ) from None
        if _digest(operations, constants) != signature.circuit:
            raise PrivacyError(
                "program_invalid",
                f"Circuit and signature in {folder} do not belong together; publish them again.",
            )
        return cls(signature, circuit)


def circuit_digest(circuit: Circuit) -> str:
    """SHA-256, hex, of a circuit as it is saved: what a signature calls its circuit."""
    return _digest(circuit.to_json(), _pack(circuit))


def _digest(operations: bytes, constants: bytes) -> str:
    return hashlib.sha256(
        hashlib.sha256(operations).digest() + hashlib.sha256(constants).digest()
    ).hexdigest()


def _pack(circuit: Circuit) -> bytes:
    from safetensors.numpy import save

    data: bytes = save({name: constant.vector for name, constant in circuit.constants.items()})
    return data


def _unpack(data: bytes) -> dict[str, NDArray[np.float64]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        vectors: dict[str, NDArray[np.float64]] = load(data)
    except SafetensorError as error:
        raise ValueError("no safetensors") from error
    return vectors
