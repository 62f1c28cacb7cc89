"""The models that the encrypted benches measure: trained here from public records, compiled, and given keys.

Everything is seeded, so every run measures the same weights. How our compiler is called is written in
`programs` alone.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from harness import cpu
from rich.progress import track
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

from cloakwork_functions.models.data import Data
from cloakwork_functions.models.fit import deterministic
from cloakwork_privacy.ckks.secret import SecretKeys
from cloakwork_privacy.evaluate import EvaluationKeys, Evaluator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from cloakwork_privacy.compiler.plan import Purpose
    from cloakwork_privacy.compiler.program import Program

SEED = 0
MAX_RECORDS = 64
RATE, BATCH, EPOCHS, SMOOTHING = 0.002, 64, 40, 0.1
BRIGHTEST = 16.0


class ConvNet(nn.Module):
    """The network of TenSEAL's fourth tutorial: images (n, 1, 28, 28) from 0 to 1 → logits (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, kernel_size=7, stride=3)
        self.fc1 = nn.Linear(256, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.conv1(images).square().flatten(1)
        logits: torch.Tensor = self.fc2(self.fc1(hidden).square())
        return logits


@dataclass(frozen=True, eq=False)
class Trained:
    """A fitted network, the records it learnt from and those it never saw."""

    module: nn.Module
    learn: Data
    held: Data

    def logits(self, records: NDArray[Any]) -> NDArray[np.float64]:
        """What the network says when computed in float64: the truth that encrypted answers are held to."""
        exact = copy.deepcopy(self.module).double()
        with torch.inference_mode():
            answers: NDArray[np.float64] = exact(torch.from_numpy(records.astype(np.float64))).numpy()
        return answers

    def accuracy(self, logits: NDArray[np.float64]) -> float:
        """Share of the held-out records that these logits, one row each, read rightly."""
        return float((labels(logits) == self.held.labels).mean())


@dataclass(frozen=True, eq=False)
class Service:
    """Both ends of one program: the server's evaluator and one client's keys, already parsed there."""

    program: Program
    server: Evaluator
    keys: SecretKeys
    public: EvaluationKeys

    @classmethod
    def of(cls, program: Program) -> Self:
        server, keys = Evaluator(program), SecretKeys.generate(program.signature)
        return cls(program, server, keys, server.parse_keys(keys.evaluation_keys()))

    def run(self, request: bytes) -> bytes:
        """The server's whole work: frame in, frame out."""
        return self.server.run(request, self.public)

    def seconds(self, request: bytes, times: int) -> float:
        """CPU seconds of a run, the mean of so many: now and then one makes ahead what the next ones use."""
        return cpu(lambda: [self.run(request) for _ in range(times)]) / times

    def logits(self, records: NDArray[Any]) -> NDArray[np.float64]:
        """Encrypted answers to any number of records, in requests as large as the program takes."""
        most = self.program.signature.max_records
        rows = []
        for start in track(range(0, len(records), most), "encrypted answers"):
            request = self.keys.seal(records[start : start + most])
            rows.append(self.keys.logits(self.run(request), request))
        return np.concatenate(rows)


def programs(
    trained: Trained, *, degree: int = 3, tune_epochs: int = 0, throughput: bool = False
) -> Mapping[Purpose, Program]:
    """Compile a network for "latency", where asked for "throughput" too, on the records it learnt from."""
    from cloakwork_privacy.compiler.compile import compile  # noqa: A004 - its name there

    outputs = trained.logits(trained.learn.records[:1]).shape[1]
    return compile(
        trained.module,
        trained.learn.records.astype(np.float64),
        finish="binary" if outputs == 1 else "softmax",
        degree=degree,
        tune_epochs=tune_epochs,
        max_records=MAX_RECORDS,
        throughput=throughput,
    ).programs


def cnn() -> Trained:
    """The tutorial's network on scikit-learn's 8x8 digits, brought to 28x28 by bilinear interpolation.

    Its logits stay below 16, the most that the tutorial's parameters can hold: see `_fitted`.
    """
    bunch = load_digits()
    small = torch.from_numpy(bunch.images / BRIGHTEST).unsqueeze(1)
    images = nn.functional.interpolate(small, size=(28, 28), mode="bilinear").numpy()
    return _fitted(ConvNet, Data.of(images, bunch.target))


def mlp(*hidden: int) -> Trained:
    """64 pixels from 0 to 1 → hidden layers with ReLU → 10 logits."""
    bunch = load_digits()

    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for inputs, outputs in zip((64, *hidden), (*hidden, 10), strict=True):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return _fitted(build, Data.of(bunch.data / BRIGHTEST, bunch.target))


def regression() -> Trained:
    """Logistic regression on the 30 features of breast-cancer, standardised → the logit of malignant."""
    bunch = load_breast_cancer()
    learn, held = Data.of(bunch.data, 1 - bunch.target).split(SEED)
    mean, deviation = learn.records.mean(axis=0), learn.records.std(axis=0)
    learn, held = (Data((data.records - mean) / deviation, data.labels) for data in (learn, held))
    fitted = LogisticRegression(max_iter=1000).fit(learn.records, learn.labels)
    module = nn.Linear(30, 1)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(fitted.coef_))
        module.bias.copy_(torch.from_numpy(fitted.intercept_))
    return Trained(module.eval(), learn, held)


def labels(logits: NDArray[np.float64]) -> NDArray[np.int64]:
    """The class of each row: the largest logit, or the sign of the only one."""
    said = logits.argmax(axis=1) if logits.shape[1] > 1 else logits[:, 0] > 0
    return said.astype(np.int64)


def _fitted(build: Callable[[], nn.Module], data: Data) -> Trained:
    """Fit as the tutorial does (Adam, batches of 64), with smoothed labels, which keep logits small."""
    learn, held = data.split(SEED)
    records, truth = torch.from_numpy(learn.records), torch.from_numpy(learn.labels)
    with deterministic(SEED):
        module = build()
        optimizer = torch.optim.Adam(module.parameters(), RATE)
        for _ in range(EPOCHS):
            for batch in torch.split(torch.randperm(len(learn)), BATCH):
                optimizer.zero_grad()
                nn.functional.cross_entropy(
                    module(records[batch]), truth[batch], label_smoothing=SMOOTHING
                ).backward()
                optimizer.step()
    return Trained(module.eval(), learn, held)
