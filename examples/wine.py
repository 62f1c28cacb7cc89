"""A model of one's own: three cultivars of wine by 13 chemical measurements, in a network of five layers.

`cloakwork compile examples/wine.py` reads MODEL from here.
"""

import numpy as np
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from torch import nn

from cloakwork_functions.models.own import Model


class Network(nn.Module):
    """Measurements float32 (n, 13) → logits (n, 3), with batch normalisation and a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm1d(13), nn.Linear(13, 32), nn.ReLU())
        self.block = nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.SiLU())
        self.last = nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        """Score records."""
        hidden = self.first(records)
        scores: torch.Tensor = self.last(hidden + self.block(hidden))
        return scores


def train(records: np.ndarray, labels: np.ndarray) -> nn.Module:
    """Fit it; how is nobody's business but its owner's."""
    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), 0.01, weight_decay=1e-3)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(
            network(torch.from_numpy(records)), torch.from_numpy(labels), label_smoothing=0.1
        ).backward()
        optimizer.step()
    return network.eval()


wine = load_wine()
learn, held_out, learn_labels, held_out_labels = train_test_split(
    wine.data.astype(np.float32), wine.target, test_size=0.3, stratify=wine.target, random_state=0
)

MODEL = Model(
    name="wine",
    summary="Which of three cultivars a wine was made from, by 13 chemical measurements.",
    module=train(learn, learn_labels),
    records=learn,
    labels=learn_labels,
    held_out=held_out,
    held_out_labels=held_out_labels,
    classes=("class_0", "class_1", "class_2"),
    features=tuple(wine.feature_names),
    training_data="UCI wine recognition data, as scikit-learn ships it: 178 wines of one region. Public.",
    limits="An example. Three cultivars of one region say nothing about other wines.",
    license="Apache-2.0; training data CC BY 4.0",
    prices={"plaintext": 1_000, "encrypted": 20_000},
)
