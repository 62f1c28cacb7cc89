"""The main job on real input: train, publish, serve, and call in three privacy modes over HTTP.

`make demo` runs it. It keeps what it trains in build/home, so a second run starts at once; it stops the
gateway it started, prints one table, and writes build/demo.json.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich import box
from rich.console import Console, JustifyMethod
from rich.progress import track
from rich.table import Table
from safetensors.numpy import load_file

from cloakwork import Client
from cloakwork_functions.home import Home
from cloakwork_functions.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cloakwork.wire import ModelInfo

BUILD = Path(__file__).resolve().parent.parent / "build"
MODELS = ("tumor-risk", "digits")
MODES = ("plaintext", "anonymized", "encrypted")
RECORDS = 100
GRACE_SECONDS = 40
CLI = (sys.executable, "-m", "cloakwork.cli")

KILO, MEGA = 1000, 1000_000
COLUMNS: dict[str, JustifyMethod] = {
    "model": "left",
    "mode": "left",
    "accuracy": "right",
    "card's": "right",
    "median": "right",
    "up": "right",
    "down": "right",
    "price": "right",
    "what the server saw": "left",
}

# Wide enough for the table where nobody has set a terminal's width.
console = Console(width=None if sys.stdout.isatty() else 130)


def main() -> None:
    """Run the whole story."""
    os.environ["CLOAKWORK_HOME"] = str(BUILD / "home")
    os.environ["CLOAKWORK_CONFIG"] = str(BUILD / "config")
    home = Home.default()
    registry = Registry(home.registry)
    published = {info.model for info in registry.list()}
    for model in MODELS:
        if model not in published:
            console.print(f"[bold]{model}[/] is not published yet: training it")
            subprocess.run([*CLI, "train", model], check=True)
    with gateway() as (address, key), Client(address, key) as client:
        rows = [measure(client, registry, model, mode) for model in MODELS for mode in MODES]
    (BUILD / "demo.json").write_text(json.dumps(rows, indent=1) + "\n")
    show(rows)


@contextmanager
def gateway() -> Iterator[tuple[str, str]]:
    """Start the gateway on a free loopback port, with a key that lives as long as it does."""
    key = subprocess.run(
        [*CLI, "keys", "create", "--name", "demo"], check=True, capture_output=True, text=True
    )
    secret = key.stdout.strip()
    with (BUILD / "gateway.log").open("w") as log:
        server = subprocess.Popen(
            [*CLI, "serve", "--port", "0"], stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert server.stdout is not None
            greeting = server.stdout.readline().strip()
            console.print(greeting)
            yield greeting.rpartition(" ")[2], secret
        finally:
            server.terminate()
            try:
                server.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            subprocess.run([*CLI, "keys", "revoke", secret.rpartition("_")[0]], check=True)


class HeldOut(NamedTuple):
    """Records the model never saw in training, and what they are."""

    records: NDArray[np.float32]
    labels: NDArray[np.int64]


def measure(client: Client, registry: Registry, model: str, mode: str) -> dict[str, Any]:
    """Call a model once a record, and say how it went."""
    info = client.models.get(model)
    held = held_out(registry, info)
    first = client.run(model, held.records[0], privacy=mode)  # starts workers; makes and uploads keys
    outputs, seconds, result = [], [], None
    for record in track(held.records, f"{model}, {mode}", console=console, disable=not console.is_terminal):
        began = time.perf_counter()
        result = client.run(model, record, privacy=mode)
        seconds.append(time.perf_counter() - began)
        outputs.append(result.output)
    assert result is not None
    plain = client.run(model, held.records).output
    said = np.asarray(outputs)
    return {
        "model": model,
        "mode": mode,
        "n": len(outputs),
        "accuracy": float((said.argmax(axis=1) == held.labels).mean()),
        "card_accuracy": info.card.modes[result.privacy.mode].accuracy,
        "median_ms": statistics.median(seconds) * 1000,
        "bytes_up": result.privacy.bytes_up,
        "bytes_down": result.privacy.bytes_down,
        "keys_up_once": first.privacy.keys_up,
        "price_usd": str(result.cost),
        "epsilon": result.privacy.epsilon,
        "server_saw": result.privacy.sent,
        "argmax_agrees_with_plaintext": float((said.argmax(axis=1) == plain.argmax(axis=1)).mean()),
        "largest_difference_from_plaintext": float(np.abs(said - plain).max()),
    }


def held_out(registry: Registry, info: ModelInfo) -> HeldOut:
    """Read the records that came with the artifact."""
    tensors = load_file(registry.artifact(info.digest).folder / "heldout.safetensors")
    return HeldOut(tensors["records"][:RECORDS], tensors["labels"][:RECORDS])


def show(rows: list[dict[str, Any]]) -> None:
    """Print the one table."""
    table = Table(title=f"{RECORDS} held-out records a row, one HTTP call each", box=box.SIMPLE_HEAD)
    for heading, justify in COLUMNS.items():
        table.add_column(heading, justify=justify, no_wrap=heading != "what the server saw")
    for row in rows:
        epsilon = f" (ε = {row['epsilon']:g})" if row["epsilon"] else ""
        table.add_row(
            row["model"],
            row["mode"],
            f"{row['accuracy']:.3f}",
            f"{row['card_accuracy']:.3f}",
            f"{row['median_ms']:.1f} ms",
            size(row["bytes_up"]),
            size(row["bytes_down"]),
            f"${row['price_usd'].rstrip('0')}",
            row["server_saw"] + epsilon,
            end_section=row["mode"] == MODES[-1],
        )
    console.print(table)
    keys = ", ".join(f"{row['model']} {size(row['keys_up_once'])}" for row in rows if row["keys_up_once"])
    if keys:
        console.print(f"Public evaluation keys, uploaded once before the first encrypted call: {keys}.")
    console.print(f"Figures: {BUILD / 'demo.json'}")


def size(count: int) -> str:
    """Write a number of bytes."""
    if count < KILO:
        return f"{count} B"
    return f"{count / KILO:.1f} kB" if count < MEGA else f"{count / MEGA:.2f} MB"


if __name__ == "__main__":
    main()
