"""The command line: what a user types here, the operator's commands by entry point."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from cloakwork.errors import CloakworkError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

OWN = ("models", "quote", "receipts", "run", "usage")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 0 done, 1 failed, 2 not understood."""
    parser = argparse.ArgumentParser(prog="cloakwork", description="Models that never need to see your data.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in _modules().items():
        described = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.configure(described)
        described.set_defaults(run=module.run)
    chosen = parser.parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
    except CloakworkError as failure:
        print(f"cloakwork: {failure}", file=sys.stderr)  # noqa: T201
        return 1
    except OSError as failure:
        where = f": {failure.filename}" if failure.filename else ""
        print(f"cloakwork: {failure.strerror or failure}{where}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _modules() -> dict[str, Any]:
    """Find the commands; those whose extra is not installed are left out."""
    found: dict[str, Any] = {name: import_module(f"{__name__}.{name}") for name in OWN}
    for entry in entry_points(group="cloakwork.commands"):
        try:
            found[entry.name] = entry.load()
        except ModuleNotFoundError:
            continue
    return found
