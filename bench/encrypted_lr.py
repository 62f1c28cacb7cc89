"""Encrypted logistic regression on 30 features: ours against TenSEAL's `CKKSVector.dot`, the same weights.

Server time is reading a request, evaluating it and writing the answer, in CPU seconds of one thread.
"""

from __future__ import annotations

import numpy as np
from encrypted_models import Service, labels, programs, regression
from harness import alone, cpu, in_turns, less_is_better, one_thread, write
from peers.tenseal_models import LinearModel

from cloakwork_privacy.ckks.frames import Kind, decode

ROUNDS = 15
RUNS = 40
PEER = "TenSEAL"


def main() -> None:
    trained = regression()
    service = Service.of(programs(trained)["latency"])
    weight, bias = (tensor.detach().numpy() for tensor in trained.module.parameters())
    peer = LinearModel(weight[0].tolist(), float(bias[0]))
    one_thread()
    record = trained.held.records[:1]
    request, theirs = service.keys.seal(record), peer.seal(record[0].tolist())
    times = in_turns(ROUNDS, lambda: service.seconds(request, RUNS), lambda: cpu(lambda: peer.run(theirs)))
    truth, said = trained.logits(trained.held.records), service.logits(trained.held.records)
    answers = service.run(request), peer.run(theirs)
    error, flips = np.abs(said - truth).max(), (labels(said) != labels(truth)).sum()
    exact = (
        f"CPU, parsed and written; {len(truth)} held-out records: largest error {error:.1g}, {flips} flips"
    )
    frame = service.keys.evaluation_keys()
    public, *switching = decode(frame, Kind.EVALUATION_KEYS, most_parts=3, most_bytes=len(frame)).parts
    keys = f"switching keys; the public key that masks answers: {len(public):,}; theirs {len(peer.keys):,}"
    write(
        "encrypted_lr",
        [
            less_is_better(times, "encrypted.lr.server", "s", PEER, exact),
            alone([float(sum(map(len, switching)))], "encrypted.lr.keys", "bytes", keys),
            less_is_better([sizes(request, theirs)], "encrypted.lr.up", "bytes", PEER, "one record"),
            less_is_better([sizes(*answers)], "encrypted.lr.answer", "bytes", PEER, "one record"),
        ],
    )


def sizes(ours: bytes, theirs: bytes) -> tuple[float, float]:
    """Bytes of each."""
    return float(len(ours)), float(len(theirs))


if __name__ == "__main__":
    main()
