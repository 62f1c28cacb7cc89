"""What benches of the whole service share: models of the catalogue, and a gateway of its own to call."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness import ROOT
from rich.console import Console
from safetensors.numpy import load_file

from cloakwork_functions.home import Home
from cloakwork_functions.models import train
from cloakwork_functions.registry import Registry
from cloakwork_privacy.compiler.program import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

HOME = Home(ROOT / "build" / "home")
SOURCES = (ROOT / "privacy", ROOT / "functions" / "cloakwork_functions" / "models")


class Server(NamedTuple):
    """A server under test; `ready` is the seconds from its command to its greeting."""

    process: subprocess.Popen[Any]
    port: int
    key: str = ""
    ready: float = 0.0


def published(name: str) -> Path:
    """Give a model's artifact: trained and published where there is none, or only one older than its code."""
    registry = Registry(HOME.registry)
    if not any(info.model == name for info in registry.list()) or _stale(_artifact(registry, name)):
        Console().print(f"training {name}")
        HOME.make()
        with tempfile.TemporaryDirectory() as scratch:
            train(name, Path(scratch) / "artifact")
            registry.publish(Path(scratch) / "artifact")
        os.utime(_artifact(registry, name))
    return _artifact(registry, name)


def program(name: str) -> Program:
    """Give the latency program of a model's encrypted mode, as its artifact holds it."""
    return Program.load(published(name) / "encrypted" / "latency")


def held_out(name: str) -> NDArray[Any]:
    """Give the records that a model never saw, as its artifact holds them."""
    records: NDArray[Any] = load_file(published(name) / "heldout.safetensors")["records"]
    return records


@contextmanager
def gateway(scratch: Path, *limits: str) -> Iterator[Server]:
    """Run our gateway on a registry shared with `build/home` and a ledger of its own.

    Args:
        scratch: an empty folder.
        limits: of its API key, as `cloakwork keys create` takes them.
    """
    (scratch / "registry").symlink_to(HOME.registry)
    environment = {**os.environ, "CLOAKWORK_HOME": str(scratch)}
    command = [sys.executable, "-m", "cloakwork.cli"]
    made = subprocess.run(
        [*command, "keys", "create", *limits], env=environment, check=True, capture_output=True, text=True
    )
    began = time.perf_counter()
    server = subprocess.Popen(
        [*command, "serve", "--port", "0", "--quiet"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        found = re.search(r":(\d+)\s*$", server.stdout.readline())
        assert found is not None
        yield Server(server, int(found[1]), made.stdout.strip(), time.perf_counter() - began)
    finally:
        server.terminate()
        server.wait()


def _artifact(registry: Registry, name: str) -> Path:
    return registry.artifact(registry.resolve(name).digest).folder


def _stale(artifact: Path) -> bool:
    """Whether the code that makes artifacts has changed since this one was made."""
    newest = max(path.stat().st_mtime for folder in SOURCES for path in folder.rglob("*.py"))
    return artifact.stat().st_mtime < newest
