"""From public records to an artifact: the one life cycle that every recipe goes through.

    load → clean → split → choose → fit → evaluate → export

The held-out part is evaluated on and saved. Nothing is learnt from it and nothing chosen by it, neither here
nor among a recipe's constants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cloakwork.wire import Card, Mode, Offer, Tensor
from cloakwork_functions.models.anonymize import expected_accuracy, fit_reader, learn_release
from cloakwork_functions.models.choose import FOLDS, Choice, choose
from cloakwork_functions.models.export import export
from cloakwork_functions.models.fit import fit
from cloakwork_functions.models.measure import encrypted_offer, metrics, write_card
from cloakwork_privacy.compiler.compile import compile  # noqa: A004 - its name there

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from cloakwork_functions.models.data import Data
    from cloakwork_functions.models.recipe import Recipe
    from cloakwork_privacy.anonymize import Release
    from cloakwork_privacy.compiler.compile import Compiled

__all__ = ["run"]

MAX_RECORDS = 4096
RELEASE = "anonymized/release.json"


class Trained(NamedTuple):
    """The same task learnt for three modes."""

    network: nn.Module
    release: Release
    reader: nn.Module
    compiled: Compiled


def run(recipe: Recipe, folder: Path, seed: int) -> Card:
    """Train, measure and write a model; see `train` in the catalogue for the contract."""
    data, dropped = recipe.load().clean()
    learn, held = data.split(seed)
    choice = choose(recipe.build, learn, epochs=recipe.epochs, seed=seed)
    network = fit(recipe.build, learn, choice.settings, epochs=recipe.epochs, seed=seed)
    release = learn_release(learn, recipe.anonymizer, seed)
    compiled = compile(network, learn.records, labels=learn.labels, finish="softmax")
    trained = Trained(network, release, fit_reader(release, learn, seed), compiled)
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
    measured = metrics(trained.network, held)
    return Card(
        name=recipe.name,
        task=recipe.task,
        summary=recipe.summary,
        input=recipe.input,
        output=Tensor((len(recipe.labels),), "float32", "probability", recipe.labels, 0.0, 1.0),
        modes=_offers(recipe, trained, held, measured["accuracy"]),
        metrics=measured,
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
        Mode.ENCRYPTED: encrypted_offer(trained.compiled, held, prices.encrypted),
    }


def _write(folder: Path, card: Card, trained: Trained, held: Data) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    export(trained.network, card.input.shape, folder / Mode.PLAINTEXT)
    export(trained.reader, trained.release.wire_shape, folder / Mode.ANONYMIZED)
    (folder / RELEASE).write_bytes(trained.release.to_json())
    trained.compiled.save(folder / Mode.ENCRYPTED)
    held.save(folder / "heldout.safetensors")
    write_card(folder, card)
