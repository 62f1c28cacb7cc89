"""`cloakwork train`: run a model's recipe, and publish what it made."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cloakwork_functions.models import NAMES, train

from .publish import publish

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["HELP", "configure", "run"]

HELP = "train a model by its recipe and publish it"


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    parser.add_argument("model", choices=NAMES, help="name of a recipe")
    parser.add_argument("--out", type=Path, help="write the artifact to this folder and do not publish it")
    parser.add_argument("--alias", default="prod", help="alias to publish under (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of split and training (default: %(default)s)"
    )


def run(arguments: Namespace) -> int:
    """Do it."""
    if arguments.out:
        train(arguments.model, arguments.out, seed=arguments.seed)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / arguments.model
        train(arguments.model, folder, seed=arguments.seed)
        publish(folder, arguments.alias)
    return 0
