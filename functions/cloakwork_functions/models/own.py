"""A model that somebody else trained: what it takes to publish it beside ours."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cloakwork.wire import Card, Mode, Offer, Tensor
from cloakwork_functions.models.data import Data
from cloakwork_functions.models.export import export
from cloakwork_functions.models.fit import logits
from cloakwork_functions.models.measure import encrypted_offer, metrics, write_card
from cloakwork_privacy.compiler.compile import compile  # noqa: A004 - its name there
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import ArrayLike
    from torch import nn

    from cloakwork_privacy.compiler.report import Report

__all__ = ["Model", "build"]

MAX_RECORDS = 4096
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, eq=False)
class Model:
    """A trained classifier, and what its users should know of it.

    Attributes:
        name: as clients will call it: lower case, digits and hyphens.
        summary: one sentence for the list of models.
        module: records float32 (n, *shape) → logits (n, classes), trained.
        records, labels: (n, *shape) and (n,), class numbers from 0: some of what it learnt from. The ranges
            that these cause are what encrypted evaluation is built for.
        held_out, held_out_labels: the same of records it never saw, for the card's accuracies.
        classes: names, in the order of the logits.
        prices: nano-USD a record, for "plaintext" and "encrypted".
        features: names of the features, where a record is a vector.
        unit: of the features.
        minimum, maximum: least and largest value a record may hold, if there is one.
        training_data, limits, license: as on the card.
    """

    name: str
    summary: str
    module: nn.Module
    records: ArrayLike
    labels: ArrayLike
    held_out: ArrayLike
    held_out_labels: ArrayLike
    classes: tuple[str, ...]
    prices: Mapping[str, int]
    features: tuple[str, ...] = ()
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    training_data: str = ""
    limits: str = ""
    license: str = ""


def build(
    model: Model,
    folder: Path,
    *,
    degree: int = 3,
    tune_epochs: int = 0,
    tolerance: float | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Card, Report]:
    """Compile a model and write its artifact.

    Args:
        model: what to publish.
        folder: where the artifact's files go; made if it is missing.
        degree: as of `compile`.
        tune_epochs: as of `compile`.
        tolerance: as of `compile`.
        progress: told what is being done.

    Returns:
        The card as written to `card.json`, and the compiler's report.

    Raises:
        PrivacyError: what `compile` refuses; `model_invalid` when the description contradicts itself.
    """
    learn = Data.of(np.asarray(model.records), np.asarray(model.labels))
    held = Data.of(np.asarray(model.held_out), np.asarray(model.held_out_labels))
    _check(model, learn, held)
    module = copy.deepcopy(model.module).eval()
    _check_outputs(module, held, len(model.classes))
    compiled = compile(
        module,
        learn.records,
        labels=learn.labels,
        finish="softmax",
        degree=degree,
        tune_epochs=tune_epochs,
        tolerance=tolerance,
        progress=progress,
    )
    progress("export")
    shape = learn.records.shape[1:]
    export(module, shape, folder / Mode.PLAINTEXT)
    compiled.save(folder / Mode.ENCRYPTED)
    held.save(folder / "heldout.safetensors")
    measured = metrics(module, held)
    accuracy = measured["accuracy"]
    plaintext = Offer(model.prices[Mode.PLAINTEXT], accuracy, "the record itself", MAX_RECORDS)
    card = Card(
        name=model.name,
        task="classification",
        summary=model.summary,
        input=Tensor(shape, "float32", model.unit, model.features, model.minimum, model.maximum),
        output=Tensor((len(model.classes),), "float32", "probability", model.classes, 0.0, 1.0),
        modes={
            Mode.PLAINTEXT: plaintext,
            Mode.ENCRYPTED: encrypted_offer(compiled, held, model.prices[Mode.ENCRYPTED]),
        },
        metrics=measured,
        training={"records": str(len(learn))},
        training_data=model.training_data,
        limits=model.limits,
        license=model.license,
    )
    write_card(folder, card)
    return card, compiled.report


def _check_outputs(module: nn.Module, held: Data, classes: int) -> None:
    """Refuse a module that gives anything but a logit for each class."""
    try:
        shape = tuple(logits(module, held.take(np.arange(1))).shape)
    except Exception as failure:  # noqa: BLE001 - it is the owner's module, and may raise anything
        # What a module raises may quote the record.
        raise PrivacyError(
            "model_invalid",
            f"The module does not take a float32 record of held_out: {type(failure).__name__}.",
        ) from None
    if shape != (1, classes):
        raise PrivacyError(
            "model_invalid",
            f"The module gives {shape} for one record; it must give (1, {classes}), a logit for each class.",
        )


def _check(model: Model, learn: Data, held: Data) -> None:
    """Refuse a description that contradicts itself, before minutes go into compiling it."""
    missing = {Mode.PLAINTEXT, Mode.ENCRYPTED} - set(model.prices)
    faults = {
        "name: lower case letters, digits and hyphens, at most 63": not NAME.fullmatch(model.name),
        f"prices: give one for {' and '.join(sorted(missing))}": bool(missing),
        "records and labels: as many of one as of the other": len(learn.records) != len(learn.labels)
        or len(held.records) != len(held.labels),
        "held_out: records, and of the same shape as those learnt from": not len(held)
        or held.records.shape[1:] != learn.records.shape[1:],
        "labels: class numbers from 0 to one below the number of classes": any(
            len(data) and not 0 <= data.labels.min() <= data.labels.max() < len(model.classes)
            for data in (learn, held)
        ),
        "features: one name for each feature of a vector, or none": bool(model.features)
        and (len(model.features),) != learn.records.shape[1:],
    }
    for fault, found in faults.items():
        if found:
            raise PrivacyError("model_invalid", f"The model's description is at fault in its {fault}.")
