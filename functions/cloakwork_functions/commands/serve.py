"""`cloakwork serve`: the gateway over HTTP, models in processes on this machine."""

from __future__ import annotations

import logging
import math
import socket
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

import uvicorn
from rich.console import Console

from cloakwork_functions.gateway import KeyLimits, create_app
from cloakwork_functions.gateway.protocol import BoundedHeadProtocol
from cloakwork_functions.home import Home
from cloakwork_functions.registry import Registry
from cloakwork_functions.runtime import LocalRuntime

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

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
    keys = KeyLimits(int(arguments.keys_quota * MIB), arguments.keys_days * DAY)
    app = create_app(home, LocalRuntime(arguments.idle_seconds, arguments.workers), keys)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=BoundedHeadProtocol,
        timeout_graceful_shutdown=30,
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
    try:
        listener = socket.create_server((arguments.host, arguments.port), backlog=BACKLOG)
    except (OSError, OverflowError) as failure:
        Console(stderr=True).print(f"Cannot listen on {arguments.host}, port {arguments.port}: {failure}")
        return 1
    with listener:
        address = f"http://{arguments.host}:{listener.getsockname()[1]}"
        models = ", ".join(info.model for info in Registry(home.registry).list()) or "nothing yet"
        Console().print(f"cloakwork serves {models} at {address}", soft_wrap=True)
        uvicorn.Server(config).run(sockets=[listener])
    return 0
