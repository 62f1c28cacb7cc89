from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import onnxruntime
import pytest
from safetensors.numpy import load_file

from cloakwork.wire import Card, Mode
from cloakwork_functions.models import NAMES
from cloakwork_functions.models.data import Data

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


@dataclass(frozen=True)
class Made:
    """A trained artifact, read back from its folder as a server would."""

    returned: Card
    folder: Path

    @property
    def card(self) -> Card:
        return msgspec.json.decode((self.folder / "card.json").read_bytes(), type=Card)

    @property
    def held(self) -> Data:
        return Data(**load_file(self.folder / "heldout.safetensors"))

    def run(self, mode: Mode, records: np.ndarray) -> np.ndarray:
        session = onnxruntime.InferenceSession(self.folder / mode / "model.onnx")
        return session.run(["output"], {"input": records})[0]


@pytest.fixture(scope="session", params=NAMES)
def made(request, trained):
    return Made(*trained(request.param))
