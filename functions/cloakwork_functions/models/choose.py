"""Choosing the optimiser and its rate by stratified cross-validation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from sklearn.model_selection import StratifiedKFold
from torch import nn

from cloakwork_functions.models.fit import Build, Settings, fit, logits

if TYPE_CHECKING:
    from cloakwork_functions.models.data import Data

__all__ = ["FOLDS", "GRID", "Choice", "choose"]

FOLDS = 4
GRID = tuple(Settings(name, rate) for name in ("SGD", "Adam") for rate in (0.01, 0.03, 0.1))


class Choice(NamedTuple):
    """The settings that did best, and the mean accuracy over the folds they did it with."""

    settings: Settings
    accuracy: float


def choose(build: Build, data: Data, *, epochs: int, seed: int) -> Choice:
    """Fit every setting of the grid on every fold; the best accuracy wins, the lower loss among equals."""
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(data.records, data.labels))
    scores = {}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("cross-validation", total=len(GRID) * FOLDS)
        for settings in GRID:
            results = []
            for learn, check in folds:
                module = fit(build, data.take(learn), settings, epochs=epochs, seed=seed)
                results.append(_score(module, data.take(check)))
                progress.advance(task)
            accuracy, loss = np.mean(results, axis=0)
            scores[settings] = (float(accuracy), -float(loss))
    best = max(scores, key=lambda settings: scores[settings])
    return Choice(best, scores[best][0])


def _score(module: nn.Module, data: Data) -> tuple[float, float]:
    labels, scores = torch.from_numpy(data.labels), logits(module, data)
    loss = float(nn.functional.cross_entropy(scores, labels))
    if not math.isfinite(loss):
        # The rate was too high. Scores of NaN would pass for the first class, and be right now and then.
        return 0.0, math.inf
    return float((scores.argmax(dim=1) == labels).float().mean()), loss
