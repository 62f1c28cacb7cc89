"""`cloakwork serve`: the gateway over HTTP, models in processes on this machine."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

import uvicorn
import uvloop
from rich.console import Console

from cloakwork_functions.gateway import KeyLimits, create_app, open_service
from cloakwork_functions.gateway.protocol import BoundedHeadProtocol
from cloakwork_functions.home import Home
from cloakwork_functions.runtime import LocalRuntime

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from starlette.types import ASGIApp

__all__ = ["HELP", "configure", "run"]

HELP = "serve published models over HTTP"
BACKLOG = 2048
MIB = 1 << 20
DAY = 24 * 3600.0


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8700, help="port, 0 for a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--idle-seconds",
        type=_amount,
        default=300.0,
        help="stop a worker unused for so long (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=_count, help="most processes of a model in encrypted mode (default: one a core)"
    )
    parser.add_argument(
        "--keys-quota",
        type=_amount,
        default=512.0,
        metavar="MIB",
        help="most evaluation keys of one API key; the least recently used go first (default: %(default)s)",
    )
    parser.add_argument(
        "--keys-days",
        type=_amount,
        default=30.0,
        metavar="DAYS",
        help="remove evaluation keys unused for so long (default: %(default)s)",
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help="books in this Postgres, for several gateways (default: CLOAKWORK_DATABASE_URL, else SQLite)",
    )
    parser.add_argument("--quiet", action="store_true", help="log failures only, not every request")


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise ArgumentTypeError("must be a whole number from 1 on")
    return int(text)


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise ArgumentTypeError("must be a positive number")
    return value


def run(arguments: Namespace) -> int:
    """Serve until told to stop."""
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.INFO)
    if arguments.quiet:
        logging.getLogger("cloakwork.access").setLevel(logging.WARNING)
    home = Home.default()
    try:
        listener = socket.create_server((arguments.host, arguments.port), backlog=BACKLOG)
    except (OSError, OverflowError) as failure:
        Console(stderr=True).print(f"Cannot listen on {arguments.host}, port {arguments.port}: {failure}")
        return 1
    with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(arguments, home, listener))
    return 0


async def _serve(arguments: Namespace, home: Home, listener: socket.socket) -> None:
    runtime = LocalRuntime(arguments.idle_seconds, arguments.workers)
    limits = KeyLimits(int(arguments.keys_quota * MIB), arguments.keys_days * DAY)
    async with open_service(home, database=arguments.database, runtime=runtime, limits=limits) as service:
        address = f"http://{arguments.host}:{listener.getsockname()[1]}"
        models = ", ".join(info.model for info in service.registry.list()) or "nothing yet"
        Console().print(f"cloakwork serves {models} at {address}", soft_wrap=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            # uvicorn stops at these, and raises them again: that must not end us before the books are closed.
            signal.signal(number, lambda *_: None)
        await uvicorn.Server(_config(create_app(service))).serve(sockets=[listener])


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedHeadProtocol,
        lifespan="off",
        timeout_graceful_shutdown=30,
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
