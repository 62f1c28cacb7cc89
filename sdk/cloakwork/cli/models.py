"""`cloakwork models`: what is published, or one model's card."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from cloakwork.client import Client
from cloakwork.rates import in_words

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from cloakwork.wire import ModelInfo

__all__ = ["HELP", "configure", "run"]

HELP = "list the published models, or show one's card"


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    parser.add_argument("model", nargs="?", help="show this model's whole card, as JSON")


def run(arguments: Namespace) -> int:
    """Do it."""
    with Client() as client:
        if arguments.model:
            print(json.dumps(asdict(client.models.get(arguments.model)), indent=2))  # noqa: T201
            return 0
        for info in client.models.list():
            _print(info)
    return 0


def _print(info: ModelInfo) -> None:
    aliases = f" ({', '.join(info.aliases)})" if info.aliases else ""
    print(f"{info.model}@{info.version}{aliases}  {info.card.summary}")  # noqa: T201
    for mode, offer in info.card.modes.items():
        epsilon = f", ε = {offer.epsilon:g} a record" if offer.epsilon else ""
        price = in_words(info.prices[mode]) if mode in info.prices else "no price yet"
        line = f"  {mode:<11} accuracy {offer.accuracy:.3f}, {price}{epsilon}"
        print(line)  # noqa: T201
