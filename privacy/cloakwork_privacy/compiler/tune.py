"""Fine-tunes a module so that it does with polynomials what it did with its activations."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn

from cloakwork_privacy.compiler.calibrate import checked
from cloakwork_privacy.compiler.fit import approximate, check_options
from cloakwork_privacy.compiler.trace import trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from cloakwork_privacy.compiler.fit import Substitute
    from cloakwork_privacy.compiler.trace import Node, Trace

__all__ = ["tune"]

_BATCH: Final = 64
_HELD_BACK: Final = 5
_TEMPERATURE: Final = 3.0
_PENALTY: Final = 1.0


def tune(
    module: nn.Module,
    records: ArrayLike,
    *,
    degree: int,
    epochs: int = 20,
    seed: int = 0,
    margin: float = 0.1,
    rate: float = 3e-3,
    classifier: bool | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Trains a copy whose activations are polynomials to give the module's own logits.

    It needs no labels: the module is the teacher (Hinton et al., Distilling the Knowledge in a Neural
    Network, 2015). Polynomials are fitted anew before each epoch, as `fit` will do in the end. A fifth of the
    records is held back, and the best epoch on it is kept, the untouched weights being epoch 0.

    Args:
        module: What `trace` accepts. It is not changed.
        records: (n, *input shape) of real numbers: calibration records, without labels.
        degree: Of the polynomials, 1 to 15.
        epochs: Passes over the records.
        seed: Decides about the split and the order; torch's own generator is left alone.
        margin: By which share of itself each range is widened at either end.
        rate: Adam's first step size; it falls to zero like a cosine.
        classifier: Whether the logits end in a softmax, so that only their differences matter; None asks
            the module, whether it ends in one.
        progress: Called with the epoch and its loss on the records held back.

    Returns:
        A copy with tuned parameters, with its activations, type and training flag as they were.

    Raises:
        PrivacyError: Those of `checked`, `trace` and `fit.check_options`.
    """
    check_options(degree, margin)
    shape = np.shape(records)[1:]
    batch = checked(records, shape).reshape(-1, *shape)
    traced = trace(module, batch[:_BATCH])
    parameters = dict(traced.module.named_parameters())
    random = np.random.default_rng(seed)
    order = random.permutation(len(batch))
    held = len(batch) // _HELD_BACK
    kind = traced.finish == "softmax" if classifier is None else classifier
    student = _Student(
        traced, batch[order[held:]], batch[order[: held or None]], degree, margin, classifier=kind
    )
    best, kept = student.refit(), _copied(parameters)
    _report(progress, 0, best)
    optimiser = torch.optim.Adam(parameters.values(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, epochs))
    for epoch in range(1, epochs + 1):
        for chosen in _minibatches(random.permutation(len(student.records))):
            optimiser.zero_grad()
            student.loss(chosen).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        schedule.step()
        loss = student.refit()
        _report(progress, epoch, loss)
        if loss < best:
            best, kept = loss, _copied(parameters)
    tuned = copy.deepcopy(module)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            parameter.copy_(kept[name])
    return tuned


class _Student:
    """The module with polynomials, its teacher's logits and its losses."""

    def __init__(
        self,
        traced: Trace,
        records: NDArray[np.float64],
        held: NDArray[np.float64],
        degree: int,
        margin: float,
        *,
        classifier: bool,
    ) -> None:
        self._classifier = classifier
        self._traced, self._degree, self._margin = traced, degree, margin
        self.records, self._held = torch.from_numpy(records), torch.from_numpy(held)
        with torch.no_grad():
            self._wanted, self._held_wanted = traced.run(self.records), traced.run(self._held)
        self._substitutes: dict[str, Substitute] = {}
        self._unit = float(self._wanted.var()) or 1.0

    def refit(self) -> float:
        """Fits the polynomials to the present weights; returns the loss on the records held back."""

        def activate(node: Node, values: torch.Tensor) -> torch.Tensor:
            assert node.activation is not None
            flat = values.reshape(len(values), -1).numpy()
            self._substitutes[node.name] = approximate(
                node.activation, lambda: [flat], len(flat), self._degree, self._margin
            )
            return self._activate(node, values)

        with torch.no_grad():
            self._traced.run(self.records, activate)
            return float(self._distance(self._traced.run(self._held, self._activate), self._held_wanted))

    def loss(self, chosen: NDArray[np.intp]) -> torch.Tensor:
        """Distance from the teacher on some records, and what leaves the fitted ranges."""
        outside = []

        def activate(node: Node, values: torch.Tensor) -> torch.Tensor:
            outside.append(self._outside(node, values))
            return self._activate(node, values)

        found = self._traced.run(self.records[chosen], activate)
        return self._distance(found, self._wanted[chosen]) + _PENALTY * sum(outside, torch.zeros(()))

    def _distance(self, found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Kullback-Leibler divergence of a classifier's tempered chances, or else relative mean square."""
        if self._classifier:
            log_found, log_wanted = ((logits / _TEMPERATURE).log_softmax(1) for logits in (found, wanted))
            return (log_wanted.exp() * (log_wanted - log_found)).sum(1).mean() * _TEMPERATURE**2
        return (found - wanted).square().mean() / self._unit

    def _activate(self, node: Node, values: torch.Tensor) -> torch.Tensor:
        substitute = self._substitutes[node.name]
        scale, gain, shift = (
            torch.from_numpy(numbers).reshape(node.shape)
            for numbers in (substitute.scale, substitute.gain, substitute.shift)
        )
        scaled = values / scale
        result = torch.zeros_like(scaled)
        for coefficient in reversed(substitute.polynomial.coefficients):
            result = result * scaled + coefficient
        return gain * scale * result + shift

    def _outside(self, node: Node, values: torch.Tensor) -> torch.Tensor:
        """Mean square of what exceeds a range, in units of the range."""
        substitute = self._substitutes[node.name]
        low, high = substitute.bounds
        scaled = values / torch.from_numpy(substitute.scale).reshape(node.shape)
        excess = torch.relu(low - scaled) + torch.relu(scaled - high)
        return (excess / (high - low)).square().mean()


def _copied(parameters: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def _minibatches(order: NDArray[np.intp]) -> list[NDArray[Any]]:
    return np.array_split(order, max(1, round(len(order) / _BATCH)))


def _report(progress: Callable[[int, float], None] | None, epoch: int, loss: float) -> None:
    if progress is not None:
        progress(epoch, loss)
