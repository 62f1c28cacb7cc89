"""What every bench shares: turns taken with a peer, medians, and the file that is written.

A figure is the median over rounds; a ratio is the median of the rounds' own ratios, so that a machine
whose speed drifts moves both sides alike. `ratio` above 1 always means better than the peer.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "build" / "bench"
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"


@dataclass(frozen=True)
class Figure:
    """One line of the output."""

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float
    ratio: float
    n: int
    note: str


def in_turns(
    rounds: int, ours: Callable[[], float], theirs: Callable[[], float]
) -> list[tuple[float, float]]:
    """Measure both sides, one after the other, `rounds` times."""
    return [(ours(), theirs()) for _ in track(range(rounds), "measuring")]


@contextmanager
def paused(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Keep a server and its workers, a session of their own, off the processor while another is measured."""
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGCONT)


def less_is_better(pairs: list[tuple[float, float]], name: str, unit: str, peer: str, note: str) -> Figure:
    """Compare costs."""
    return _figure(pairs, [their / our for our, their in pairs], name, unit, peer, note)


def more_is_better(pairs: list[tuple[float, float]], name: str, unit: str, peer: str, note: str) -> Figure:
    """Compare rates."""
    return _figure(pairs, [our / their for our, their in pairs], name, unit, peer, note)


def write(name: str, figures: list[Figure]) -> None:
    """Write build/bench/NAME.json and show it."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    rows = [asdict(figure) for figure in figures]
    (OUTPUT / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    table = Table("figure", "ours", "peer", "ratio", "n", "note")
    for figure in figures:
        ours, theirs = f"{figure.value:.4g} {figure.unit}", f"{figure.peer_value:.4g} ({figure.peer})"
        table.add_row(figure.name, ours, theirs, f"{figure.ratio:.1f}x", str(figure.n), figure.note)
    Console().print(table)


def _figure(pairs: list[tuple[float, float]], ratios: list[float], *what: str) -> Figure:
    name, unit, peer, note = what
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Figure(name, ours, unit, peer, theirs, statistics.median(ratios), len(pairs), note)
