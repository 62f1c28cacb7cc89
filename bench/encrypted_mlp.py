"""Encrypted perceptrons with ReLU on the 8x8 digits: 64-64-10 at degree 3, 64-32-16-10 at degree 7.

ReLU is replaced by polynomials when compiling; accuracy lost is what that and the encryption cost together,
on every held-out image. Server time is CPU of one thread, request parsed and answer written. Concrete-ML runs
the smaller one where it is installed (`make bench-concrete`): see `peers/concrete_mlp.py`.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from encrypted_models import Service, Trained, labels, mlp, programs
from harness import CONCRETE_PYTHON, ROOT, Figure, alone, cpu, in_turns, less_is_better, one_thread, write
from rich.console import Console
from rich.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 20
DEEP_RUNS = 10
EPOCHS = 20  # of tuning, by distillation from the module itself
CONCRETE_ROUNDS = 5
MILLI = 1000.0


def main() -> None:
    trained, deep = mlp(64), mlp(32, 16)
    service = Service.of(programs(trained, tune_epochs=EPOCHS)["latency"])
    one_thread()
    times = milliseconds(trained, service, RUNS)
    figures = [
        alone(times, "encrypted.mlp.server", "ms", "CPU, MLP 64-64-10, ReLU at degree 3"),
        accuracy_lost(trained, service),
        deep_server(deep),
    ]
    if CONCRETE_PYTHON.exists():
        figures.append(concrete(trained, service))
    else:
        Console().print(
            "encrypted.mlp.concrete is left out: Concrete-ML is not installed (make bench-concrete)"
        )
    write("encrypted_mlp", figures)


def milliseconds(trained: Trained, service: Service, runs: int) -> list[float]:
    """Server times, each on a held-out image of its own."""
    requests = [service.keys.seal(trained.held.records[index : index + 1]) for index in range(runs)]
    return [MILLI * cpu(partial(service.run, request)) for request in track(requests, "server time")]


def accuracy_lost(trained: Trained, service: Service) -> Figure:
    """Points of held-out accuracy between the float module and the encrypted program."""
    truth, said = trained.logits(trained.held.records), service.logits(trained.held.records)
    ours, theirs = trained.accuracy(said), trained.accuracy(truth)
    flips = int((labels(said) != labels(truth)).sum())
    note = (
        f"{theirs:.4f} in float, {ours:.4f} encrypted, {flips} of {len(truth)} held-out images read otherwise"
    )
    return alone([100.0 * (theirs - ours)], "encrypted.mlp.accuracy_lost", "points", note)


def deep_server(trained: Trained) -> Figure:
    """Server time of the deep one; the answers to what was timed are checked too."""
    service = Service.of(programs(trained, degree=7, tune_epochs=EPOCHS)["latency"])
    times = milliseconds(trained, service, DEEP_RUNS)
    images = trained.held.records[:DEEP_RUNS]
    same = int((labels(service.logits(images)) == labels(trained.logits(images))).sum())
    note = f"CPU, MLP 64-32-16-10, ReLU at degree 7; {same} of {len(images)} read as in float"
    return alone(times, "encrypted.mlp7.server", "ms", note)


def concrete(trained: Trained, service: Service) -> Figure:
    """Our server time against Concrete-ML's, on the same images, in turns."""
    images = trained.held.records[:CONCRETE_ROUNDS]
    requests = [service.keys.seal(images[index : index + 1]) for index in range(CONCRETE_ROUNDS)]
    turn = iter(requests)
    with concrete_ml(trained) as peer:
        about = peer.line()
        pairs = in_turns(CONCRETE_ROUNDS, lambda: cpu(partial(service.run, next(turn)), RUNS), peer.seconds)
    note = (
        f"CPU, same MLP; theirs at {about['bits']} bits: accuracy {about['accuracy']:.4f} of "
        f"{about['float_accuracy']:.4f}, {about['key_bytes'] / 1e6:.0f} MB of keys"
    )
    return less_is_better(pairs, "encrypted.mlp.concrete", "s", "Concrete-ML", note)


class Concrete:
    """Concrete-ML at work in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def seconds(self) -> float:
        """CPU seconds of its next run."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self.line()["seconds"])


@contextmanager
def concrete_ml(trained: Trained) -> Iterator[Concrete]:
    """Start it with the network's weights; it makes its keys before the first line."""
    Console().print("Concrete-ML compiles and makes its keys: a minute or less")
    script = ROOT / "bench" / "peers" / "concrete_mlp.py"
    arrays = {name: tensor.numpy() for name, tensor in trained.module.state_dict().items()}
    arrays |= {"learn": trained.learn.records, "held": trained.held.records, "labels": trained.held.labels}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "mlp.npz"
        np.savez(path, **arrays)
        process = subprocess.Popen(
            [CONCRETE_PYTHON, script, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            yield Concrete(process)
        finally:
            process.kill()
            process.communicate()


if __name__ == "__main__":
    main()
