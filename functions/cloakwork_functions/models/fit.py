"""Fitting a small network to labelled records, the same way every time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from cloakwork_functions.models.data import Data

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Build", "Settings", "deterministic", "fit", "logits"]

# Makes an untrained network, float32 (n, *shape) → logits (n, classes); it may take scales from the records.
Build = Callable[[Data], nn.Module]

BATCH = 128
WEIGHT_DECAY = 1e-3


@dataclass(frozen=True)
class Settings:
    """What cross-validation chooses between: `SGD` (with momentum) or `Adam`, and the highest rate."""

    optimizer: str
    rate: float

    def start(self, module: nn.Module) -> torch.optim.Optimizer:
        """Make the optimiser for a network's parameters."""
        if self.optimizer == "SGD":
            return torch.optim.SGD(
                module.parameters(), self.rate, momentum=0.9, weight_decay=WEIGHT_DECAY, fused=True
            )
        return torch.optim.Adam(module.parameters(), self.rate, weight_decay=WEIGHT_DECAY, fused=True)


def fit(build: Build, data: Data, settings: Settings, *, epochs: int, seed: int) -> nn.Module:
    """Minimise cross-entropy in batches, the rate rising and falling once (one-cycle, arXiv:1708.07120)."""
    with deterministic(seed):
        module = build(data)
        records, labels = torch.from_numpy(data.records), torch.from_numpy(data.labels)
        optimizer = settings.start(module)
        steps = epochs * -(-len(data) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.rate, total_steps=steps, cycle_momentum=False
        )
        for _ in range(epochs):
            for batch in torch.split(torch.randperm(len(data)), BATCH):
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(records[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    return module.eval()


def logits(module: nn.Module, data: Data) -> torch.Tensor:
    """Run a network without gradients: float32 (n, classes)."""
    with torch.inference_mode():
        result: torch.Tensor = module(torch.from_numpy(data.records))
    return result


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seed torch and use one thread for a while, then restore both.

    For networks this small a second thread costs more than it computes, and sums in another order.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
