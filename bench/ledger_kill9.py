"""A gateway under load, killed a thousand times with SIGKILL at random moments, half of them on Postgres.

Every call goes out under a name and is repeated until it is answered. When all is done, the books are asked
whether each answered call is in them, at its price, and none is charged twice. They are audited after every
kill, and at the end nothing may be held.

    python bench/ledger_kill9.py [KILLS]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import HOME, published
from harness import ROOT, alone, write
from rich.progress import Progress, TaskID

from cloakwork_functions.home import Home

sys.path.append(str(ROOT / "tests"))  # what is shown here a thousand times is tested there a few times
from chaos import Chaos, chaos, free_port
from postgres import serving as postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = 1000


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    published("tumor-risk")
    seen: dict[str, Chaos] = {}
    with Progress() as progress, home() as here, home() as there, postgres() as cluster:
        for name, where, url in (("SQLite", here, None), ("Postgres", there, cluster.url("postgres"))):
            task = progress.add_task(f"kills on {name}", total=kills // 2)
            told = partial(tell, progress, task)
            seen[name] = asyncio.run(chaos(where, url, free_port(), kills // 2, progress=told))
    for name, what in seen.items():
        if what.unsound:
            raise SystemExit(f"The books on {name} are unsound: {what.unsound[:5]}")
    note = ", ".join(
        f"{name}: {what.kills} kills, {len(what.acknowledged)} calls answered" for name, what in seen.items()
    )
    lost, doubled = (sum(getattr(what, kind) for what in seen.values()) for kind in ("lost", "doubled"))
    write(
        "ledger_kill9",
        [
            alone([float(lost)], "ledger.kill9_lost", "calls", note),
            alone([float(doubled)], "ledger.kill9_doubled", "calls", note),
        ],
    )


def tell(progress: Progress, task: TaskID, done: int) -> None:
    progress.update(task, completed=done)


@contextmanager
def home() -> Iterator[Home]:
    """A home with the models of the benches, and books of its own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "registry").symlink_to(HOME.registry)
        yield Home(Path(folder))


if __name__ == "__main__":
    main()
