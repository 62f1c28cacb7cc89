"""Limits: how often a family of keys, or every one, may call a model, or all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloakwork.errors import error

from .apikey import Limits
from .statement import Statement

if TYPE_CHECKING:
    from .statement import Work

__all__ = ["ANY", "set_limits"]

ANY = "*"
LONGEST_MODEL = 100

SET = Statement(
    "INSERT INTO limits SELECT family, model, per_minute, concurrency FROM {batch} WHERE true "
    "ON CONFLICT (key, model) "
    "DO UPDATE SET per_minute = excluded.per_minute, concurrency = excluded.concurrency",
    "family text, model text, per_minute bigint, concurrency bigint",
)
REMOVE = Statement(
    "DELETE FROM limits WHERE (key, model) IN (SELECT family, batch.model FROM {batch})",
    "family text, model text",
)


def set_limits(family: str, limits: Limits, model: str = ANY) -> Work[None]:
    """Limit the calls of a family of keys, or of each one (`*`), to a model, or to all together (`*`).

    They take the place of the limits before; without any, calls are not limited.

    Raises:
        InputError: `scope_invalid`, the model's name is none.
    """
    if not (0 < len(model) <= LONGEST_MODEL and model.isprintable()) or "@" in model:
        raise error(
            "scope_invalid",
            "A limit is for a model by its name, without a version, or for all together, `*`.",
            param="model",
        )
    if limits == Limits():
        yield REMOVE([(family, model)])
    else:
        yield SET([(family, model, limits.per_minute, limits.concurrency)])
