"""`cloakwork usage`: what was used and charged."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cloakwork.client import BY, Client
from cloakwork.sheet import sheet
from cloakwork.usage import DIMENSIONS, table

from .table import aligned

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["HELP", "configure", "run"]

HELP = "show what your project used and was charged; your account, if your key manages"


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    parser.add_argument(
        "--since", metavar="DAY", help="YYYY-MM-DD, in UTC (default: 29 days before the last)"
    )
    parser.add_argument("--until", metavar="DAY", help="the last day (default: today)")
    parser.add_argument(
        "--by", default=",".join(BY), help=f"group by some of {','.join(DIMENSIONS)} (default: %(default)s)"
    )
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table")
    parser.add_argument("--out", type=Path, help="the file to write (default: standard output)")


def run(arguments: Namespace) -> int:
    """Do it."""
    by = [name.strip() for name in arguments.by.split(",") if name.strip()]
    with Client() as client:
        rows = table(by, client.usage(arguments.since, arguments.until, by))
    text = _text(rows, arguments.format)
    if arguments.out is None:
        sys.stdout.write(text)
    else:
        arguments.out.write_text(text, "utf-8", newline="")
    return 0


def _text(rows: list[tuple[object, ...]], form: str) -> str:
    if form == "csv":
        return sheet(rows)
    if form == "json":
        return json.dumps([dict(zip(rows[0], row, strict=True)) for row in rows[1:]], indent=1) + "\n"
    return aligned(rows)
