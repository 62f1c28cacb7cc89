"""The CNN of TenSEAL's fourth tutorial, encrypted: ours against TenSEAL's own API, on the same weights.

Server time is what a server does with a request, in CPU seconds of one thread: reading it, evaluating it and
writing the answer. Keys are in place on both sides. Our answers are compared with the torch module's logits
in float64, on every held-out image; theirs on those that were timed.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from encrypted_models import Service, Trained, cnn, labels, programs
from harness import Figure, alone, cpu, in_turns, less_is_better, one_thread, write
from peers.tenseal_models import ConvNet
from rich.progress import track

ROUNDS = 5
RUNS = 5
BATCH = 4096
BATCHES = 3
PEER = "TenSEAL"


def main() -> None:
    trained = cnn()
    compiled = programs(trained, throughput=True)
    one_thread()
    figures = latency(trained, Service.of(compiled["latency"]), Peer(trained))
    write("encrypted_cnn", [*figures, throughput(trained, Service.of(compiled["throughput"]))])


class Peer:
    """TenSEAL's network on the first held-out images, a new one each time it is measured."""

    def __init__(self, trained: Trained) -> None:
        images = trained.held.records[:ROUNDS]
        self.truth = trained.logits(images)
        self.network = ConvNet(trained.module)
        self.requests = [self.network.seal(image[0].tolist()) for image in images]
        self.answers: list[bytes] = []

    def seconds(self) -> float:
        request = self.requests[len(self.answers)]
        return cpu(lambda: self.answers.append(self.network.run(request)))

    def error(self) -> float:
        said = np.array([self.network.open(answer) for answer in self.answers])
        return float(np.abs(said - self.truth).max())


def latency(trained: Trained, service: Service, peer: Peer) -> list[Figure]:
    """Time, sizes and errors, one image a request."""
    request = service.keys.seal(trained.held.records[:1])
    times = in_turns(ROUNDS, lambda: cpu(partial(service.run, request), RUNS), peer.seconds)
    truth, said = trained.logits(trained.held.records), service.logits(trained.held.records)
    error = float(np.abs(said - truth).max())
    flips = float((labels(said) != labels(truth)).sum())
    exact = f"{len(truth)} held-out images, logits up to {np.abs(truth).max():.1f} in float64"
    sizes = {
        "keys": (service.keys.evaluation_keys(), peer.network.keys, "all evaluation keys, once"),
        "up": (request, peer.requests[0], "one image"),
        "answer": (service.run(request), peer.answers[0], "one image"),
    }
    return [
        less_is_better(times, "encrypted.cnn.server", "s", PEER, "CPU, one image, parsed and written"),
        *(
            less_is_better([(float(len(ours)), float(len(theirs)))], name, "bytes", PEER, note)
            for name, (ours, theirs, note) in ((f"encrypted.cnn.{key}", row) for key, row in sizes.items())
        ),
        less_is_better(
            [(error, peer.error())], "encrypted.cnn.error", "", PEER, f"{exact}; theirs on {ROUNDS}"
        ),
        alone([flips], "encrypted.cnn.flips", "images", f"{exact}; accuracy {trained.accuracy(said):.4f}"),
    ]


def throughput(trained: Trained, service: Service) -> Figure:
    """Images a second in one large request, held-out images over and over."""
    count = min(BATCH, service.program.signature.max_records)
    images = np.resize(trained.held.records, (count, *trained.held.records.shape[1:]))
    request = service.keys.seal(images)
    rates = [count / cpu(partial(service.run, request)) for _ in track(range(BATCHES), "throughput")]
    error = np.abs(service.keys.logits(service.run(request), request) - trained.logits(images)).max()
    note = f"{count} images in one request, CPU of one thread, largest error {error:.1g}"
    return alone(rates, "encrypted.cnn.batch_rate", "images/s", note)


if __name__ == "__main__":
    main()
