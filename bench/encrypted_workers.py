"""Two cores against one: encrypted digits per second in forked processes that share one evaluator.

No binding of SEAL releases the interpreter lock, so a core more takes a process more. They are forked once
the constants are encoded and the keys are read, so that they share both. Wall time: close to 2 when nothing
else runs on two cores, and anything when something does.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from typing import TYPE_CHECKING

from encrypted_models import Service
from gateway import held_out, program
from harness import alone, in_turns, one_thread, write

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

ROUNDS = 5
SECONDS = 3.0


def main() -> None:
    service = Service.of(program("digits"))
    request = service.keys.seal(held_out("digits")[:1])
    one_thread()
    pairs = in_turns(ROUNDS, lambda: rate(service, request, 2), lambda: rate(service, request, 1))
    load, single = os.getloadavg()[0], statistics.median(one for _, one in pairs)
    note = f"wall, {os.cpu_count()} cores; one process answers {single:.1f}/s; load {load:.1f} at the end"
    write("encrypted_workers", [alone([two / one for two, one in pairs], "encrypted.workers", "x", note)])


def rate(service: Service, request: bytes, workers: int) -> float:
    """Answers per second of so many processes."""
    fork = multiprocessing.get_context("fork")
    start, done = fork.Barrier(workers), fork.Queue()
    processes = [
        fork.Process(target=work, args=(service, request, start, done), daemon=True) for _ in range(workers)
    ]
    for process in processes:
        process.start()
    total = sum(done.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    return float(total)


def work(service: Service, request: bytes, start: Barrier, done: Queue[float]) -> None:
    """Answer for some seconds; give the answers per second."""
    service.run(request)
    start.wait()
    began, answered = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < SECONDS:
        service.run(request)
        answered += 1
    done.put(answered / elapsed)


if __name__ == "__main__":
    main()
