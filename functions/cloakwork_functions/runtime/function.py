"""What a worker process runs: the function of one artifact in one mode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cloakwork.errors import CloakworkError, error
from cloakwork.wire import Mode

from .lru import LeastRecentlyUsed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cloakwork_functions.registry import Artifact
    from cloakwork_privacy.ckks.public import EvaluationKeys
    from cloakwork_privacy.evaluate import Evaluator

    from .channel import Part

__all__ = ["Function", "load"]

# What parsed keys may take in one worker, and what a set takes: parsed, each seed in it becomes as much again
# as stands beside it; and there are our own objects.
PARSED_BYTES = 256 << 20
PARSED_FACTOR = 2
PARSED_OVERHEAD = 64 << 10


class Function(Protocol):
    """Runs batches."""

    def __call__(self, parts: list[Part], payload: memoryview) -> list[bytes | CloakworkError]:
        """Answer each part, in order."""


def load(artifact: Artifact, mode: Mode) -> Function:
    """Load a model into this process."""
    if mode is Mode.ENCRYPTED:
        programs = artifact.card.modes[mode].programs.values()
        return EncryptedFunction((artifact.folder / program.artifact).parent for program in programs)
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
    """A model's circuits over ciphertexts. Plaintexts are encoded once, here; parsed keys are kept."""

    def __init__(self, folders: Iterable[Path]) -> None:
        from cloakwork_privacy.evaluate import Evaluator

        loaded = [Evaluator.load(folder) for folder in folders]
        self._evaluators = {bytes.fromhex(each.signature.digest): each for each in loaded}
        self._keys: LeastRecentlyUsed[EvaluationKeys] = LeastRecentlyUsed(PARSED_BYTES)

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
            return self._evaluator(frame).run(frame, parsed) if frame else b""
        except PrivacyError as refusal:
            return error(refusal.code, str(refusal))
        except FileNotFoundError:
            return error(
                "evaluation_keys_missing", "The evaluation keys are gone from the server; upload them again."
            )

    def _evaluator(self, frame: bytes) -> Evaluator:
        """The program a frame was made for."""
        from cloakwork_privacy.ckks.frames import peek
        from cloakwork_privacy.errors import PrivacyError

        evaluator = self._evaluators.get(peek(frame).program)
        if evaluator is None:
            raise PrivacyError("wrong_program", "This was made for another program; fetch the card again.")
        return evaluator

    def _parsed(self, path: str) -> EvaluationKeys:
        fingerprint = Path(path).stem
        if fingerprint not in self._keys:
            data = Path(path).read_bytes()
            keys = self._evaluator(data).parse_keys(data)
            self._keys.add(fingerprint, keys, PARSED_FACTOR * len(data) + PARSED_OVERHEAD)
        return self._keys.get(fingerprint)
