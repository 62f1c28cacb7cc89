"""`cloakwork publish`: put an artifact into the registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from cloakwork.wire import Card
from cloakwork_functions.home import Home
from cloakwork_functions.registry import Artifact, Registry
from cloakwork_functions.runtime.function import load

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["HELP", "configure", "publish", "run"]

HELP = "put a trained artifact into the registry"


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    parser.add_argument("folder", type=Path, help="what `cloakwork train --out` wrote")
    parser.add_argument("--alias", default="prod", help="alias to point at it (default: %(default)s)")


def run(arguments: Namespace) -> int:
    """Do it."""
    try:
        publish(arguments.folder, arguments.alias)
    except (ValueError, OSError) as failure:
        Console(stderr=True).print(f"Not published: {failure}")
        return 1
    return 0


def publish(folder: Path, alias: str) -> None:
    """Publish a folder to the operator's registry and say what it became."""
    _check(folder)
    home = Home.default()
    home.make()
    info = Registry(home.registry).publish(folder, alias)
    Console().print(
        f"Published {info.model}@{info.version} as {info.model}@{alias}, sha256:{info.digest[:12]}."
    )


def _check(folder: Path) -> None:
    """Load every mode once, here, so that nothing is published that no worker could run.

    Raises:
        ValueError: a mode does not load, or the card is no card.
        FileNotFoundError: the folder has no card.
    """
    try:
        card = msgspec.json.decode((folder / "card.json").read_bytes(), type=Card)
    except msgspec.DecodeError as failure:
        raise ValueError(f"{folder / 'card.json'} is no model card: {failure}") from None
    for mode in card.modes:
        try:
            load(Artifact("", folder, card), mode)
        except Exception as failure:
            raise ValueError(f"its {mode} mode does not load: {failure}") from failure
