"""Whole encrypted calls: SDK to gateway and back, over loopback, keys in place.

A real `cloakwork serve` runs in a process of its own with worker processes of its own. A call is what a user
waits for: sealing, HTTP, two durable ledger commits, computing and opening, in wall time.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway import gateway, held_out
from harness import alone, in_turns, write

from cloakwork import Client

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODELS = ("tumor-risk", "digits")
ROUNDS = 10
CALLS = 10
MILLI = 1000.0


def main() -> None:
    records = {name: held_out(name) for name in MODELS}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["CLOAKWORK_CONFIG"] = str(Path(scratch) / "config")
        home = Path(scratch) / "home"
        home.mkdir()
        with gateway(home) as server, Client(f"http://127.0.0.1:{server.port}", server.key) as client:
            pairs = {name: measured(client, name, held) for name, held in records.items()}
    quotients = [ours / theirs for ours, theirs in pairs["tumor-risk"]]
    times = [ours for ours, _ in pairs["digits"]]
    write(
        "encrypted_calls",
        [
            alone(quotients, "encrypted.lr.call", "x", described(pairs["tumor-risk"])),
            alone(times, "encrypted.digits.call", "ms", described(pairs["digits"])),
        ],
    )


def described(pairs: list[tuple[float, float]]) -> str:
    """Both sides in words."""
    encrypted, plain = (statistics.median(side) for side in zip(*pairs, strict=True))
    return f"wall, median of {CALLS} calls a round: {encrypted:.1f} ms encrypted, {plain:.1f} ms in plaintext"


def measured(client: Client, name: str, records: NDArray[Any]) -> list[tuple[float, float]]:
    """Median milliseconds of a call, encrypted and in plaintext, round by round."""
    for privacy in ("encrypted", "plaintext"):
        milliseconds(client, name, records, privacy)  # makes and uploads keys, starts workers
    return in_turns(
        ROUNDS,
        lambda: milliseconds(client, name, records, "encrypted"),
        lambda: milliseconds(client, name, records, "plaintext"),
    )


def milliseconds(client: Client, name: str, records: NDArray[Any], privacy: str) -> float:
    """The median of some calls, one record each."""
    taken = []
    for record in records[:CALLS]:
        began = time.perf_counter()
        client.run(name, record, privacy=privacy)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * MILLI


if __name__ == "__main__":
    main()
