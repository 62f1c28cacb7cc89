"""Seal and open: what a record becomes before it leaves, and what an answer becomes after it arrives.

    mode         leaves the machine as             opened by
    plaintext    the record                        reading it
    anonymized   a noised public projection        reading it
    encrypted    CKKS ciphertexts                  the secret key, which stays in the user's folder

`seal` gives the body and the way to open its answer in one value, so that neither can be mixed up
with another call's.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from . import tensor
from .errors import ConfigError, InputError, PrivacyError, error, foreign
from .wire import Media, Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from cloakwork_privacy.anonymize import Release
    from cloakwork_privacy.ckks.secret import SecretKeys

    from .wire import ModelInfo, Response

NUMERIC = "fiu"

__all__ = [
    "PrivacyReport",
    "Sealed",
    "anonymized",
    "count",
    "encrypted",
    "open_keys",
    "open_release",
    "plaintext",
]


@dataclass(frozen=True)
class PrivacyReport:
    """What left this machine for one call.

    Attributes:
        mode: the mode asked for.
        sent: what left, in words.
        bytes_up: size of the request's body.
        bytes_down: size of the answer's body.
        keys_up: bytes of public evaluation keys uploaded for it; 0 once they are there.
        epsilon: local differential privacy spent by each record, or None where no noise was drawn.
    """

    mode: Mode
    sent: str
    bytes_up: int
    bytes_down: int
    keys_up: int = 0
    epsilon: float | None = None


@dataclass(frozen=True)
class Sealed:
    """A body ready to leave, and how to open the answer to it.

    `records` is how many it may hold: one number, or two where only the model's card could tell a batch from
    a single record.
    """

    mode: Mode
    body: bytes
    records: frozenset[int]
    media: str
    accept: str
    open: Callable[[Response], Any]
    sent: str
    epsilon: float | None = None

    def report(self, answer: Response, keys_up: int) -> PrivacyReport:
        """Tell what left, once the answer's size is known."""
        return PrivacyReport(self.mode, self.sent, len(self.body), len(answer.body), keys_up, self.epsilon)


def plaintext(value: Any) -> Sealed:
    """Send a record, or a batch of them, as it is: arrays as a tensor, anything else as JSON.

    Raises:
        InputError: the value holds NaN or infinity, or something JSON cannot say.
    """
    accept = Media.TENSOR if find_spec("numpy") else Media.JSON
    if hasattr(value, "__array__"):
        import numpy as np

        array = np.asarray(value)
        body, media, length = tensor.encode(array), Media.TENSOR, len(array) if array.ndim else 1
    else:
        body, media, length = _json(value), Media.JSON, len(value) if isinstance(value, list | tuple) else 1
    return Sealed(Mode.PLAINTEXT, body, frozenset({1, length}), media, accept, _read, "the record itself")


def anonymized(value: Any, info: ModelInfo, release: Release, max_epsilon: float) -> Sealed:
    """Send a noised projection of each record, drawn here; the record itself stays.

    Values beyond the card's bounds are clipped, not refused: whether a call was made at all would be a bit
    about the record that no noise hides.

    Raises:
        InputError: the value does not fit the model's input.
        PrivacyError: `epsilon_too_large`, the service asks for more than the card or the user says.
    """
    import numpy as np

    offer = info.card.modes[Mode.ANONYMIZED]
    allowed = min(max_epsilon, offer.epsilon or 0.0)
    if release.epsilon > allowed + 1e-6:
        raise PrivacyError(
            "epsilon_too_large",
            f"A call would spend ε = {release.epsilon:g} a record and at most {allowed:g} is allowed; "
            "raise max_epsilon if that is what you want.",
        )
    records, single = _batch(value, info)
    if records.dtype.kind in NUMERIC:
        records = np.clip(records, info.card.input.minimum, info.card.input.maximum)
    with _translated():
        body = tensor.encode(release.release(records))

    def read(answer: Response) -> Any:
        output = _read(answer)
        if np.shape(output) != (len(records), *info.card.output.shape):
            raise PrivacyError("answer_invalid", "The answer has another shape than the card says.")
        return output[0] if single else output

    count = frozenset({len(records)})
    return Sealed(Mode.ANONYMIZED, body, count, Media.TENSOR, Media.TENSOR, read, offer.sent, release.epsilon)


def encrypted(value: Any, info: ModelInfo, keys: SecretKeys) -> Sealed:
    """Send each record as a ciphertext only `keys` can open.

    Raises:
        InputError: the value does not fit the model's input.
        PrivacyError: on opening, when the answer is not one to this request.
    """
    records, single = _batch(value, info)
    _check_bounds(records, info)
    with _translated():
        body = keys.seal(records)
    offer = info.card.modes[Mode.ENCRYPTED]

    def decrypt(answer: Response) -> Any:
        with _translated():
            output = keys.open(answer.body, body)
        return output[0] if single else output

    count = frozenset({len(records)})
    return Sealed(Mode.ENCRYPTED, body, count, Media.FRAME, Media.FRAME, decrypt, offer.sent)


def count(value: Any, info: ModelInfo) -> int:
    """Tell how many records a value holds, as far as its shape goes.

    Raises:
        InputError: it is ragged.
    """
    with _translated("encrypted"):
        records, _ = _batch(value, info)
    return len(records) if records.ndim else 1


def open_release(document: bytes) -> Release:
    """Read the public half of an anonymized mode; it comes from the server and is checked."""
    with _translated("anonymized"):
        from cloakwork_privacy.anonymize import Release

        return Release.from_json(document)


def open_keys(document: bytes, folder: Path) -> SecretKeys:
    """Load this user's keys for a program, or make them and write them under `folder`."""
    with _translated("encrypted"):
        from cloakwork_privacy.ckks.secret import SecretKeys
        from cloakwork_privacy.compiler.signature import Signature

        signature = Signature.from_json(document)
        place = folder / signature.digest
        try:
            return SecretKeys.load(place, signature)
        except FileNotFoundError:
            keys = SecretKeys.generate(signature)
            keys.save(place)
            return keys


def _batch(value: Any, info: ModelInfo) -> tuple[NDArray[Any], bool]:
    """Give records a batch dimension, and tell whether there was none."""
    import numpy as np

    try:
        records = np.asarray(value)
    except (TypeError, ValueError):
        raise InputError("wrong_shape", "The input is ragged; give a rectangular array of numbers.") from None
    single = records.ndim == len(info.card.input.shape)
    return (records[None] if single else records), single


def _check_bounds(records: NDArray[Any], info: ModelInfo) -> None:
    low, high = info.card.input.minimum, info.card.input.maximum
    if records.dtype.kind not in NUMERIC or records.size == 0:
        return
    if (low is not None and records.min() < low) or (high is not None and records.max() > high):
        raise InputError("out_of_range", f"Values must be {info.card.input.bounds}, as the card says.")


def _json(value: Any) -> bytes:
    try:
        return json.dumps({"input": value}, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise InputError(
            "not_finite", "The input holds NaN or infinity; remove or impute such values."
        ) from None
    except TypeError:
        raise InputError(
            "wrong_dtype", "The input holds something that is neither number, text, list nor map."
        ) from None


def _read(answer: Response) -> Any:
    if answer.headers.get("content-type") == Media.TENSOR:
        return tensor.decode(answer.body).copy()
    try:
        return json.loads(answer.body)["output"]
    except (ValueError, TypeError, KeyError):
        raise foreign() from None


@contextmanager
def _translated(extra: str = "") -> Iterator[None]:
    """Raise the privacy package's errors, and its absence, as the SDK's own."""
    try:
        from cloakwork_privacy.errors import PrivacyError as Refusal

        yield
    except ModuleNotFoundError as missing:
        raise ConfigError(
            "extra_missing",
            f"The {extra} mode needs the package {missing.name}: pip install 'cloakwork[{extra}]'.",
        ) from None
    except Refusal as refusal:
        raise error(refusal.code, str(refusal)) from refusal
