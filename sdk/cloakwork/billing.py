"""Questions about money, as flows: what was used, and what a call would cost."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from .errors import InputError, foreign
from .exchange import Deadline, decoded, path
from .quote import Quote, QuoteInput, Quotes
from .usage import Usage
from .wire import Media, Path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from .exchange import Flow
    from .flow import Session
    from .wire import Mode

__all__ = ["count", "quote", "quotes", "usage"]


def usage(
    session: Session, since: date | str | None, until: date | str | None, by: Sequence[str], deadline: float
) -> Flow[Usage]:
    """Ask what was used."""
    asked = {"from": since, "to": until, "by": ",".join(by)}
    query = urlencode({name: str(value) for name, value in asked.items() if value is not None})
    answer = yield from session.exchange.call("GET", f"{Path.USAGE}?{query}", Deadline(deadline))
    return decoded(Usage, answer)


def quotes(
    session: Session, ref: str, value: Any, mode: Mode | None, deadline: float
) -> Flow[dict[Mode, Quote]]:
    """Count the records here and ask what a call with so many would cost."""
    end = Deadline(deadline)
    info = yield from session.model(ref, end.remaining())
    asked = QuoteInput(count(value, info.card.input.shape), mode)
    where = path(Path.QUOTE, model=ref)
    headers = {"content-type": Media.JSON}
    answer = yield from session.exchange.call("POST", where, end, headers, json.dumps(asdict(asked)).encode())
    return {each.mode: each for each in decoded(Quotes, answer).quotes}


def quote(session: Session, ref: str, value: Any, mode: Mode, deadline: float) -> Flow[Quote]:
    """Ask what a call in one mode would cost."""
    found = yield from quotes(session, ref, value, mode, deadline)
    if mode not in found:
        raise foreign()
    return found[mode]


def count(value: Any, shape: tuple[int, ...]) -> int:
    """Tell how many records of a shape a value holds, by its nesting: lists need no numpy.

    Raises:
        InputError: `wrong_shape`, it is neither a record nor a batch of them.
    """
    depth, level = 0, value
    while isinstance(level, list | tuple) and level:
        depth, level = depth + 1, level[0]
    depth += getattr(level, "ndim", 0)
    if depth == len(shape):
        return 1
    if depth == len(shape) + 1:
        return len(value)
    raise InputError(
        "wrong_shape", f"Give one record of shape {list(shape)}, or a batch of them.", param="input"
    )
