"""Requests per second of one small model: ours with API keys and a durable ledger, LitServe's without.

Both serve the graph of tumor-risk on onnxruntime with one worker process and get the same JSON body,
32 connections at once, in turns. LitServe runs twice, with and without its batching; the faster counts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import Server, gateway, published
from harness import PEERS_PYTHON, ROOT, in_turns, more_is_better, paused, write

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 5
SECONDS = 4.0
RECORD = {"input": [0.5] * 30}


def main() -> None:
    graph = published("tumor-risk") / "plaintext" / "model.onnx"
    with tempfile.TemporaryDirectory() as scratch, gateway(Path(scratch)) as us:
        request = post("/v1/models/tumor-risk/run", us.key)
        figures = []
        for batch in (1, 32):
            with litserve(graph, batch) as them:
                pairs = in_turns(
                    ROUNDS,
                    lambda them=them: rate(us, request, them),
                    lambda them=them: rate(them, post("/predict"), us),
                )
            note = f"32 connections, JSON, two durable ledger commits a call; LitServe batches {batch}"
            figures.append(more_is_better(pairs, "gateway.plaintext_rps", "requests/s", "LitServe", note))
    write("plaintext_rps", [min(figures, key=lambda figure: figure.ratio)])


@contextmanager
def litserve(graph: Path, batch: int) -> Iterator[Server]:
    """Run LitServe on the same graph."""
    port = 8790 + batch
    script = ROOT / "bench" / "peers" / "litserve_server.py"
    # A session of its own: LitServe's worker processes outlive their parent unless the group is ended.
    server = subprocess.Popen(
        [PEERS_PYTHON, script, graph, str(port), str(batch)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(port)
        yield Server(server, port)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for(port: int) -> None:
    """Wait until a server answers one request."""
    for _ in range(120):
        time.sleep(0.5)
        try:
            load(port, post("/predict"), 0.2)
        except subprocess.CalledProcessError:
            continue
        return
    raise TimeoutError(f"nothing answers on port {port}")


def rate(server: Server, request: bytes, other: Server) -> float:
    """Measure one server's answers per second while the other is paused."""
    with paused(other.process):
        return load(server.port, request, SECONDS)


def load(port: int, request: bytes, seconds: float) -> float:
    """Load a server and return its answers per second; a failed request fails the bench."""
    loader = [sys.executable, ROOT / "bench" / "load.py", "127.0.0.1", str(port), str(seconds)]
    done = subprocess.run(loader, input=request, check=True, capture_output=True)
    result = json.loads(done.stdout)
    if result["failures"]:
        raise RuntimeError(f"{result['failures']} requests failed on port {port}")
    return float(result["rate"])


def post(path: str, key: str | None = None, value: object = RECORD) -> bytes:
    """Write a request."""
    body = json.dumps(value).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "host: localhost",
        "content-type: application/json",
        f"content-length: {len(body)}",
    ]
    if key:
        lines.append(f"authorization: Bearer {key}")
    return "\r\n".join([*lines, "", ""]).encode() + body


if __name__ == "__main__":
    main()
