"""A nursery: a process that loads an encrypted program once, then forks the workers that serve it.

Started by the engine as `python -m cloakwork_functions.runtime.nursery FD FOLDER DIGEST MODE`. Each message
on the socket FD brings two descriptors, a socket to serve and the write end of a pipe that tells the engine
of the worker's end, and one child is forked for them. Children share the encoded plaintexts with the
nursery, page by page, for as long as nobody writes to them. They end when their own socket does, or when
the nursery does.

A fork copies one thread and whatever locks the others held, so no other thread may live here: the linear
algebra of numpy is kept from starting any, and onnxruntime, which cannot be, has no place here.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cloakwork.errors import CloakworkError
from cloakwork.wire import Mode
from cloakwork_functions.registry import Artifact

from .channel import Batch, Channel, Ready
from .function import load
from .worker import prepare, say_where, serve

if TYPE_CHECKING:
    from .function import Function

__all__ = ["DESCRIPTORS", "main"]

DESCRIPTORS = 2
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def main(fd: str, folder: str, digest: str, mode: str) -> int:
    """Load, then fork a worker for each pair of descriptors, until the engine hangs up."""
    prepare()
    os.environ.update(dict.fromkeys(THREADS, "1"))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the children
    control = socket.socket(fileno=int(fd))
    lifeline = os.pipe()
    try:
        loaded: Function | CloakworkError = load(Artifact.open(Path(folder), digest), Mode(mode))
    except CloakworkError as failure:
        loaded = failure
    # Nothing made so far is garbage; a collection in a child would only write to shared pages.
    gc.collect()
    gc.freeze()
    while (descriptors := _receive(control)) is not None:
        sock, ending = descriptors
        if isinstance(loaded, CloakworkError):
            with socket.socket(fileno=sock) as worker:
                Channel(worker, Batch).send(Ready(os.getpid(), loaded.code, loaded.message))
        elif os.fork() == 0:
            control.close()
            os.close(lifeline[1])
            _live(sock, loaded, lifeline[0])
        else:
            os.close(sock)
        os.close(ending)
    return 0


def _receive(control: socket.socket) -> list[int] | None:
    message, descriptors, _, _ = socket.recv_fds(control, 1, DESCRIPTORS)
    return descriptors if message else None


def _live(sock: int, function: Function, lifeline: int) -> None:
    """Live the life of a child; nothing of the nursery runs in it afterwards."""
    status = 1
    try:
        serve(socket.socket(fileno=sock), function, lifeline)
        status = 0
    except BaseException as failure:  # noqa: BLE001 (whatever it is, this is where the child ends)
        say_where(type(failure), failure, failure.__traceback__)
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
