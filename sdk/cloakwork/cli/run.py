"""`cloakwork run`: one call from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloakwork.client import Client
from cloakwork.errors import InputError
from cloakwork.wire import Mode

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from cloakwork.flow import Result

__all__ = ["HELP", "configure", "read_input", "run"]

HELP = "run a model on a record or a batch"


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    parser.add_argument("model", help="for example digits, digits@prod or digits@3")
    parser.add_argument("input", help="a .json or .npy file, or - for JSON on standard input")
    parser.add_argument(
        "--privacy",
        choices=[mode.value for mode in Mode],
        default=Mode.PLAINTEXT,
        help="what the server may see (default: %(default)s)",
    )
    parser.add_argument(
        "--deadline", type=float, default=60.0, help="seconds the call may take (default: %(default)s)"
    )


def run(arguments: Namespace) -> int:
    """Do it: the output goes to standard output as JSON, the rest to standard error."""
    value = read_input(arguments.input)
    with Client() as client:
        answer = client.run(arguments.model, value, privacy=arguments.privacy, deadline=arguments.deadline)
    output = answer.output.tolist() if hasattr(answer.output, "tolist") else answer.output
    print(json.dumps(output))  # noqa: T201
    print(_summary(answer), file=sys.stderr)  # noqa: T201
    return 0


def read_input(source: str) -> Any:
    """Read a record or a batch from a file, or from standard input."""
    try:
        if source.endswith(".npy"):
            import numpy as np

            return np.load(source, allow_pickle=False)
        return json.loads(sys.stdin.read() if source == "-" else Path(source).read_text("utf-8"))
    except OSError as failure:
        raise InputError("bad_request", f"{source} cannot be read: {failure.strerror}.") from None
    except ValueError:
        raise InputError("bad_json", f"{source} is neither JSON nor an .npy array.") from None


def _summary(answer: Result) -> str:
    privacy = answer.privacy
    epsilon = f", ε = {privacy.epsilon:g} spent a record" if privacy.epsilon else ""
    return (
        f"{answer.model}, {privacy.mode}: sent {privacy.sent}{epsilon}; "
        f"{privacy.bytes_up} bytes up, {privacy.bytes_down} down; ${answer.cost:f}; {answer.request_id}"
    )
