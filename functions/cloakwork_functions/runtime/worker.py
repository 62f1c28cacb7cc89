"""A worker process: one artifact in one mode, until its socket closes.

Started by the engine as `python -m cloakwork_functions.runtime.worker FD FOLDER DIGEST MODE`, or forked by
a nursery. It writes no files and prints no inputs. Faults of the caller go back as answers; a fault of the
model ends the process, and the engine starts another.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from cloakwork.errors import CloakworkError
from cloakwork.wire import Mode
from cloakwork_functions.registry import Artifact

from .channel import Batch, Channel, Ready, Replies, Reply
from .function import Function, load

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["main", "prepare", "say_where", "serve"]


def main(fd: str, folder: str, digest: str, mode: str) -> int:
    """Serve the engine at the other end of file descriptor `fd`."""
    prepare()
    sock = socket.socket(fileno=int(fd))
    try:
        function = load(Artifact.open(Path(folder), digest), Mode(mode))
    except CloakworkError as failure:
        Channel(sock, Batch).send(Ready(os.getpid(), failure.code, failure.message))
        return 1
    serve(sock, function)
    return 0


def prepare() -> None:
    """Make this process one that the engine alone stops, and that is silent about inputs."""
    # Ctrl-C reaches the whole process group; the engine decides when its workers stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = say_where


def serve(sock: socket.socket, function: Function, lifeline: int | None = None) -> None:
    """Answer batches until the socket ends, or, between two of them, the lifeline does."""
    channel = Channel(sock, Batch)
    channel.send(Ready(os.getpid()))
    while _wanted(channel, lifeline) and (message := channel.receive()) is not None:
        batch, payload = message
        _answer(channel, function, batch, payload)


def say_where(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> None:
    """Print where a fault came from without its words, which could quote an input."""
    if not issubclass(kind, ConnectionError):  # the engine went first
        sys.stderr.write(f"{kind.__name__} in a worker\n{''.join(traceback.format_tb(trace))}")


def _wanted(channel: Channel[Batch], lifeline: int | None) -> bool:
    """Wait for something to read; false when there is nothing and the lifeline has ended."""
    if lifeline is None:
        return True
    readable, _, _ = select.select([channel.fileno(), lifeline], [], [])
    return channel.fileno() in readable


def _answer(channel: Channel[Batch], function: Function, batch: Batch, payload: memoryview) -> None:
    replies, bodies = [], []
    for answer in function(batch.parts, payload):
        if isinstance(answer, CloakworkError):
            replies.append(Reply(0, answer.code, answer.message))
        else:
            replies.append(Reply(len(answer)))
            bodies.append(answer)
    channel.send(Replies(replies), b"".join(bodies))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
