"""A load generator: as many keep-alive connections as asked, each sending its next request on an answer.

Run as a process of its own, so that its work is not the server's: `python load.py HOST PORT SECONDS`
with the request, headers and all, on standard input. Prints a JSON object.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

CONNECTIONS = 32


async def connection(host: str, port: int, request: bytes, until: float, taken: list[float]) -> int:
    """Send requests until the time is over; return how many answers were not a 200."""
    reader, writer = await asyncio.open_connection(host, port)
    failures = 0
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]
        await reader.readexactly(int(length))
        taken.append(time.perf_counter() - began)
        failures += not head.startswith(b"HTTP/1.1 200")
    writer.close()
    return failures


async def load(host: str, port: int, seconds: float, request: bytes) -> dict[str, float]:
    """Load a server and describe how it did."""
    taken: list[float] = []
    began = time.perf_counter()
    until = began + seconds
    failures = await asyncio.gather(
        *(connection(host, port, request, until, taken) for _ in range(CONNECTIONS))
    )
    elapsed = time.perf_counter() - began
    cuts = statistics.quantiles(taken, n=100)
    return {
        "rate": len(taken) / elapsed,
        "requests": len(taken),
        "failures": sum(failures),
        "p50_ms": cuts[49] * 1000,
        "p99_ms": cuts[98] * 1000,
    }


def main() -> None:
    host, port, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(load(host, int(port), float(seconds), sys.stdin.buffer.read()))))


if __name__ == "__main__":
    main()
