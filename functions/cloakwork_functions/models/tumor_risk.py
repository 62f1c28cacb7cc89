"""Is a breast tumour benign or malignant? Logistic regression on 30 measurements of cell nuclei."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

from cloakwork.wire import Tensor
from cloakwork_functions.models.anonymize import Anonymizer
from cloakwork_functions.models.data import Data
from cloakwork_functions.models.recipe import Prices, Recipe

__all__ = ["RECIPE", "LogisticRegression"]


class LogisticRegression(nn.Module):
    """Raw measurements float32 (n, 30) → logits (n, 2): benign's is 0, malignant's the score.

    Mean and scale of the records learnt from are inside, so that nobody has to know them to call the model.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(data.records.mean(axis=0, dtype=np.float64)).float())
        self.register_buffer("scale", torch.from_numpy(data.records.std(axis=0, dtype=np.float64)).float())
        self.linear = nn.Linear(data.records.shape[1], 1)

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        """Score records."""
        score = self.linear((records - self.mean) / self.scale)
        return torch.cat([torch.zeros_like(score), score], dim=1)


def load() -> Data:
    """Read the 569 records; class 1 is malignant (scikit-learn has it the other way round)."""
    bunch = load_breast_cancer()
    return Data.of(bunch.data, 1 - bunch.target)


RECIPE = Recipe(
    name="tumor-risk",
    task="classification",
    summary="Probability that a breast tumour is benign or malignant, from 30 measurements of cell nuclei.",
    training_data=(
        "Breast Cancer Wisconsin (Diagnostic), Wolberg, Mangasarian, Street and Street 1993, as scikit-learn "
        "ships it: 569 fine-needle aspirates from one American hospital. Public."
    ),
    limits=(
        "A demonstration, not a medical device: no diagnosis, triage or treatment may rest on it. One "
        "hospital's 569 patients are no population. In plaintext and encrypted mode the answer gives the "
        "score away, and 31 well-chosen queries solve for every weight of a linear model: this one is no "
        "secret. In anonymized mode the projection is public and is most of the model; one answer in twenty "
        "is noise."
    ),
    license="Apache-2.0; training data CC BY 4.0",
    input=Tensor(
        shape=(30,),
        dtype="float32",
        unit="measurement of the cell nuclei in the image, as in the data set (lengths in pixels)",
        names=tuple(str(name) for name in load_breast_cancer().feature_names),
        minimum=0.0,
    ),
    labels=("benign", "malignant"),
    load=load,
    build=LogisticRegression,
    epochs=40,
    anonymizer=Anonymizer(epsilon=4.0, per_class=8, near=4),
    prices=Prices(plaintext=1_000, anonymized=1_500, encrypted=3_000),
)
