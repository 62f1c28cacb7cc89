"""What a worker process runs: the function of one artifact in one mode."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cloakwork.errors import CloakworkError, error
from cloakwork.wire import Mode

if TYPE_CHECKING:
    from cloakwork_functions.registry import Artifact
    from cloakwork_privacy.ckks.public import EvaluationKeys

    from .channel import Part

__all__ = ["Function", "load"]

CACHED_KEYS = 64


class Function(Protocol):
    """Runs batches."""

    def __call__(self, parts: list[Part], payload: memoryview) -> list[bytes | CloakworkError]:
        """Answer each part, in order."""


def load(artifact: Artifact, mode: Mode) -> Function:
    """Load a model into this process."""
    if mode is Mode.ENCRYPTED:
        return EncryptedFunction(artifact.folder / "encrypted")
    card = artifact.card
    shape = card.input.shape if mode is Mode.PLAINTEXT else card.modes[mode].wire
    return OnnxFunction(artifact.folder / mode / "model.onnx", shape)


class OnnxFunction:
    """A graph on onnxruntime, run once for the whole batch.

    One thread: a worker is a core's worth of work, and more workers use more cores.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._shape = shape
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, parts: list[Part], payload: memoryview) -> list[bytes | CloakworkError]:
        import numpy as np

        records = np.frombuffer(payload, "<f4").reshape(-1, *self._shape)
        outputs = self._session.run(["output"], {"input": records})[0]
        answers: list[bytes | CloakworkError] = []
        start = 0
        for part in parts:
            answers.append(outputs[start : start + part.records].tobytes())
            start += part.records
        return answers


class EncryptedFunction:
    """A circuit over ciphertexts. Its plaintexts are encoded once, here; parsed keys are kept."""

    def __init__(self, folder: Path) -> None:
        from cloakwork_privacy.evaluate import Evaluator

        self._evaluator = Evaluator.load(folder)
        self._keys: OrderedDict[str, EvaluationKeys] = OrderedDict()

    def __call__(self, parts: list[Part], payload: memoryview) -> list[bytes | CloakworkError]:
        answers: list[bytes | CloakworkError] = []
        start = 0
        for part in parts:
            frame = bytes(payload[start : start + part.size])
            answers.append(self._one(frame, part.keys))
            start += part.size
        return answers

    def _one(self, frame: bytes, keys: str | None) -> bytes | CloakworkError:
        from cloakwork_privacy.errors import PrivacyError

        assert keys is not None
        try:
            parsed = self._parsed(keys)
            return self._evaluator.run(frame, parsed) if frame else b""
        except PrivacyError as refusal:
            return error(refusal.code, str(refusal))
        except FileNotFoundError:
            return error(
                "evaluation_keys_missing", "The evaluation keys are gone from the server; upload them again."
            )

    def _parsed(self, path: str) -> EvaluationKeys:
        fingerprint = Path(path).stem
        if fingerprint not in self._keys:
            self._keys[fingerprint] = self._evaluator.parse_keys(Path(path).read_bytes())
            if len(self._keys) > CACHED_KEYS:
                self._keys.popitem(last=False)
        self._keys.move_to_end(fingerprint)
        return self._keys[fingerprint]
