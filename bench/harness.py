"""What every bench shares: turns taken with a peer, medians, and the file that is written.

A figure is the median over rounds; a ratio is the median of the rounds' own ratios, so that a machine
whose speed drifts moves both sides alike. `ratio` above 1 always means better than the peer. A figure without
a peer has neither.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import time
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
CONCRETE_PYTHON = ROOT / ".venv-concrete" / "bin" / "python"  # There only when asked for: it takes 6 GB.


@dataclass(frozen=True)
class Figure:
    """One line of the output."""

    name: str
    value: float
    unit: str
    peer: str | None
    peer_value: float | None
    ratio: float | None
    n: int
    note: str


def in_turns(
    rounds: int, ours: Callable[[], float], theirs: Callable[[], float]
) -> list[tuple[float, float]]:
    """Measure both sides, one after the other, `rounds` times."""
    return [(ours(), theirs()) for _ in track(range(rounds), "measuring")]


def cpu(work: Callable[[], object], times: int = 1) -> float:
    """CPU seconds that `work` takes, the median of so many times. All threads of this process count."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def one_thread() -> None:
    """Keep the libraries loaded so far to one thread: what is compared is work, not cores."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


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


def alone(values: list[float], name: str, unit: str, note: str) -> Figure:
    """Give a figure that has no peer: the median."""
    return Figure(name, statistics.median(values), unit, None, None, None, len(values), note)


def write(name: str, figures: list[Figure]) -> None:
    """Write build/bench/NAME.json and show it."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    rows = [asdict(figure) for figure in figures]
    (OUTPUT / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    table = Table("figure", "ours", "peer", "ratio", "n", "note")
    for figure in figures:
        theirs = "" if figure.peer is None else f"{figure.peer_value:.4g} ({figure.peer})"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.1f}x"
        table.add_row(figure.name, _shown(figure), theirs, ratio, str(figure.n), figure.note)
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def _shown(figure: Figure) -> str:
    number = f"{figure.value:,.0f}" if figure.unit == "bytes" else f"{figure.value:.4g}"
    return f"{number} {figure.unit}"


def _figure(pairs: list[tuple[float, float]], ratios: list[float], *what: str) -> Figure:
    name, unit, peer, note = what
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Figure(name, ours, unit, peer, theirs, statistics.median(ratios), len(pairs), note)
