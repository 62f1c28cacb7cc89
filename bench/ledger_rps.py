"""Requests per second, start and memory of a gateway: ours, which keeps books, against LiteLLM's without any.

Ours checks an API key, its limits and its credit, holds and settles on disk and signs a receipt, in front of
a worker with the graph of tumor-risk. LiteLLM's checks its one master key, in front of a server that says the
same to every chat, and keeps no books. Both get 32 connections at once, in turns, and JSON of about one size.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from gateway import Server, gateway, published
from harness import ROOT, in_turns, less_is_better, more_is_better, write
from plaintext_rps import post, rate

if TYPE_CHECKING:
    from collections.abc import Iterator

LITELLM = ROOT / ".venv-litellm" / "bin" / "litellm"
KEY = "sk-bench"
PEER = "LiteLLM"
PORT, MODEL_PORT = 8801, 8802
ROUNDS = 5
STARTS = 3
CONFIGURATION = f"""
model_list:
  - model_name: trivial
    litellm_params: {{model: openai/trivial, api_key: none, api_base: "http://127.0.0.1:{MODEL_PORT}/v1"}}
general_settings: {{master_key: {KEY}}}
"""
ASKED = {"model": "trivial", "messages": [{"role": "user", "content": "0.5 " * 30}]}


def main() -> None:
    published("tumor-risk")
    starts, memory, rates = [], [], []
    for _ in range(STARTS):
        with (
            tempfile.TemporaryDirectory() as ours,
            tempfile.TemporaryDirectory() as theirs,
            gateway(Path(ours), "--per-minute", "1000000") as us,
            litellm(Path(theirs)) as them,
        ):
            request = post("/v1/models/tumor-risk/run", us.key)
            chat = post("/v1/chat/completions", KEY, ASKED)
            starts.append((us.ready + first(us, request), them.ready))
            rates += in_turns(
                ROUNDS,
                lambda us=us, them=them, request=request: rate(us, request, them),
                lambda us=us, them=them, chat=chat: rate(them, chat, us),
            )
            memory.append((resident(us), resident(them)))
    note = "32 connections: key, limits, hold, settlement and signed receipt on disk; theirs: one key"
    write(
        "ledger_rps",
        [
            more_is_better(rates, "gateway.litellm_rps", "requests/s", PEER, note),
            less_is_better(starts, "gateway.ready_time", "s", PEER, "from the command to the first answer"),
            less_is_better(
                memory, "gateway.memory", "bytes", PEER, "resident after the load; models are other processes"
            ),
        ],
    )


def first(server: Server, request: bytes) -> float:
    """Seconds that a server's first answer takes, its worker's start included."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request)
        assert connection.recv(12) == b"HTTP/1.1 200"
    return time.perf_counter() - began


@contextmanager
def litellm(scratch: Path) -> Iterator[Server]:
    """Run LiteLLM's proxy until it answers."""
    model = subprocess.Popen([sys.executable, ROOT / "bench" / "peers" / "trivial_model.py", str(MODEL_PORT)])
    (scratch / "config.yaml").write_text(CONFIGURATION)
    began = time.perf_counter()
    server = subprocess.Popen(
        [LITELLM, "--config", scratch / "config.yaml", "--host", "127.0.0.1", "--port", str(PORT)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=scratch,
        env=os.environ | {"LITELLM_LOG": "ERROR"},
        start_new_session=True,
    )
    try:
        wait_for(PORT)
        yield Server(server, PORT, ready=time.perf_counter() - began)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        model.kill()
        model.wait()


def wait_for(port: int) -> None:
    """Wait until it answers."""
    for _ in range(1200):
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{port}/v1/chat/completions",
                json=ASKED,
                headers={"authorization": f"Bearer {KEY}"},
                timeout=30,
            )
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        answer.raise_for_status()
        return
    raise TimeoutError("LiteLLM does not answer")


def resident(server: Server) -> float:
    """Bytes in memory of a gateway's process; its model's worker and LiteLLM's model are others."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return float(status.partition("VmRSS:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
