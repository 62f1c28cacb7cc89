"""From public records to an artifact: the one life cycle that every recipe goes through.

    load → clean → split → choose → fit → evaluate → export

The held-out part is evaluated on and saved. Nothing is learnt from it and nothing chosen by it, neither here
nor among a recipe's constants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from cloakwork.wire import Card, Mode, Offer, Tensor
from cloakwork_functions.models.anonymize import expected_accuracy, fit_reader, learn_release
from cloakwork_functions.models.choose import FOLDS, Choice, choose
from cloakwork_functions.models.circuit import outputs
from cloakwork_functions.models.export import export
from cloakwork_functions.models.fit import fit, logits

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from cloakwork_functions.models.data import Data
    from cloakwork_functions.models.recipe import Recipe
    from cloakwork_privacy.anonymize import Release
    from cloakwork_privacy.compiler.program import Program

__all__ = ["run"]

MAX_RECORDS = 4096
RELEASE = "anonymized/release.json"
SIGNATURE = "encrypted/signature.json"


class Trained(NamedTuple):
    """The same task learnt for three modes."""

    network: nn.Module
    release: Release
    reader: nn.Module
    program: Program


def run(recipe: Recipe, folder: Path, seed: int) -> Card:
    """Train, measure and write a model; see `train` in the catalogue for the contract."""
    data, dropped = recipe.load().clean()
    learn, held = data.split(seed)
    choice = choose(recipe.build, learn, epochs=recipe.epochs, seed=seed)
    network = fit(recipe.build, learn, choice.settings, epochs=recipe.epochs, seed=seed)
    release = learn_release(learn, recipe.anonymizer, seed)
    trained = Trained(network, release, fit_reader(release, learn, seed), recipe.lower(network, learn))
    card = _card(recipe, trained, held, _history(recipe, choice, learn, dropped, seed))
    _write(folder, card, trained, held)
    return card


def _history(recipe: Recipe, choice: Choice, learn: Data, dropped: int, seed: int) -> dict[str, str]:
    return {
        "optimizer": choice.settings.optimizer,
        "learning_rate": f"{choice.settings.rate:g}",
        "chosen_by": f"stratified {FOLDS}-fold cross-validation, mean accuracy {choice.accuracy:.4f}",
        "epochs": str(recipe.epochs),
        "records": str(len(learn)),
        "records_dropped": str(dropped),
        "seed": str(seed),
    }


def _card(recipe: Recipe, trained: Trained, held: Data, history: dict[str, str]) -> Card:
    metrics = _metrics(trained.network, held)
    return Card(
        name=recipe.name,
        task=recipe.task,
        summary=recipe.summary,
        input=recipe.input,
        output=Tensor((len(recipe.labels),), "float32", "probability", recipe.labels, 0.0, 1.0),
        modes=_offers(recipe, trained, held, metrics["accuracy"]),
        metrics=metrics,
        training=history,
        training_data=recipe.training_data,
        limits=recipe.limits,
        license=recipe.license,
    )


def _offers(recipe: Recipe, trained: Trained, held: Data, accuracy: float) -> dict[Mode, Offer]:
    release, prices = trained.release, recipe.prices
    return {
        Mode.PLAINTEXT: Offer(prices.plaintext, accuracy, "the record itself", MAX_RECORDS),
        Mode.ANONYMIZED: Offer(
            prices.anonymized,
            expected_accuracy(release, trained.reader, held),
            f"a noisy pick among {len(release.codebook)} public points",
            MAX_RECORDS,
            release.wire_shape,
            release.epsilon,
            RELEASE,
        ),
        Mode.ENCRYPTED: Offer(
            prices.encrypted,
            float((outputs(trained.program, held.records).argmax(axis=1) == held.labels).mean()),
            "ciphertext only",
            trained.program.signature.max_records,
            artifact=SIGNATURE,
        ),
    }


def _metrics(network: nn.Module, held: Data) -> dict[str, float]:
    said = logits(network, held).argmax(dim=1).numpy()
    precision, recall, f1, _ = precision_recall_fscore_support(
        held.labels, said, average="macro", zero_division=0.0
    )
    return {
        "accuracy": float(accuracy_score(held.labels, said)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }


def _write(folder: Path, card: Card, trained: Trained, held: Data) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    export(trained.network, card.input.shape, folder / Mode.PLAINTEXT)
    export(trained.reader, trained.release.wire_shape, folder / Mode.ANONYMIZED)
    (folder / RELEASE).write_bytes(trained.release.to_json())
    trained.program.save(folder / Mode.ENCRYPTED)
    held.save(folder / "heldout.safetensors")
    # The card comes last: a folder without one is no artifact, so an interrupted run leaves none.
    (folder / "card.json").write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=1))
