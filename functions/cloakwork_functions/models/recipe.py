"""What a model's own file says; the life cycle that all models share reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloakwork.wire import Tensor
    from cloakwork_functions.models.anonymize import Anonymizer
    from cloakwork_functions.models.data import Data
    from cloakwork_functions.models.fit import Build

__all__ = ["Prices", "Recipe"]


@dataclass(frozen=True)
class Prices:
    """Per record and mode, in nano-USD."""

    plaintext: int
    anonymized: int
    encrypted: int


@dataclass(frozen=True)
class Recipe:
    """A model that can be made at any time from public records.

    Attributes:
        name: of the model, as in the catalogue.
        task, summary, training_data, limits, license: as on the card.
        input: one record.
        labels: of the classes, in the order of the output.
        load: reads the public records; labels count from 0.
        build: makes the untrained network.
        epochs: passes over the records in each fit.
        anonymizer: ε and the codebook's size.
        prices: what a record costs.
    """

    name: str
    task: str
    summary: str
    training_data: str
    limits: str
    license: str
    input: Tensor
    labels: tuple[str, ...]
    load: Callable[[], Data]
    build: Build
    epochs: int
    anonymizer: Anonymizer
    prices: Prices
