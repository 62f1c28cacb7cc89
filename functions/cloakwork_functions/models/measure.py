"""What a card says of a model, measured on held-out records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from cloakwork.wire import Card, Mode, Offer, Program
from cloakwork_functions.models.fit import logits
from cloakwork_privacy.compiler import clear

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from cloakwork_functions.models.data import Data
    from cloakwork_privacy.compiler.compile import Compiled

__all__ = ["encrypted_offer", "metrics", "write_card"]


def encrypted_offer(compiled: Compiled, held: Data, price: int) -> Offer:
    """The encrypted mode of a compiled model; its accuracy is the latency program's, run in the clear."""
    programs: dict[str, Program] = {
        purpose: Program(
            f"{Mode.ENCRYPTED}/{purpose}/signature.json",
            compiled.report.batch_from or program.signature.max_records if purpose == "throughput" else 1,
            program.signature.max_records,
        )
        for purpose, program in compiled.programs.items()
    }
    latency = compiled.programs["latency"]
    said = latency.signature.finished(clear.logits(latency, held.records))
    return Offer(
        price,
        float((said.argmax(axis=1) == held.labels).mean()),
        "ciphertext only",
        max(program.max_records for program in programs.values()),
        programs=programs,
        report=json.loads(compiled.report.to_json()),
    )


def metrics(network: nn.Module, held: Data) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 averaged over classes, of a network of logits."""
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


def write_card(folder: Path, card: Card) -> None:
    """Write the card, last of all files: a folder without one is no artifact."""
    (folder / "card.json").write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=1))
