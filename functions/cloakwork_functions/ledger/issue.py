"""Issuing API keys: new ones, and successors of keys that are rotated."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cloakwork.errors import error

from .allowance import set_allowance
from .keytext import digest, new_key, new_prefix, successor
from .limits import set_limits
from .statement import Statement

if TYPE_CHECKING:
    from .allowance import Allowance
    from .apikey import Limits
    from .scope import Scope
    from .statement import Work

__all__ = ["Old", "create", "rotate"]

PROJECT = Statement("SELECT projects.id FROM projects JOIN {batch} ON projects.id = batch.id", "id text")
MAKE = Statement(
    "INSERT INTO keys (prefix, family, digest, project, name, scope, created, expires) "
    "SELECT prefix, family, digest, project, name, scope, created, expires FROM {batch} WHERE true "
    "ON CONFLICT (prefix) DO NOTHING RETURNING prefix",
    "prefix text, family text, digest text, project text, name text, scope text, created bigint, "
    "expires bigint",
)
EXPIRE = Statement(
    "UPDATE keys SET expires = batch.at FROM {batch} "
    "WHERE keys.prefix = batch.prefix AND (expires IS NULL OR expires > batch.at)",
    "prefix text, at bigint",
)


class Old(NamedTuple):
    """A key that is locked, to be revoked or rotated."""

    family: str
    project: str
    name: str
    scope: str
    created: int
    expires: int | None
    revoked: int | None


def create(
    project: str,
    name: str,
    scope: Scope,
    now: int,
    *,
    expires: int | None,
    limits: Limits,
    budget: Allowance | None,
) -> Work[str]:
    """Make a key and return it whole; see `Keys.create`.

    Raises:
        NotFoundError: `unknown_project`.
    """
    if not (project.isprintable() and (yield PROJECT([(project,)]))):
        raise error(
            "unknown_project",
            "There is no such project; make it with `cloakwork accounts project ACCOUNT NAME`.",
            param="project",
        )
    prefix = new_prefix(scope.floor)
    key = new_key(prefix)
    made = yield MAKE([(prefix, prefix, digest(key), project, name, scope.to_json(), now, expires)])
    assert made, "eight random letters were drawn twice"
    yield from set_limits(prefix, limits)
    if budget is not None:
        yield from set_allowance(f"key:{prefix}", budget)
    return key


def rotate(prefix: str, old: Old, overlap: int, now: int) -> Work[str]:
    """Make the key that takes another's place and return it whole; see `Keys.rotate`.

    Args:
        prefix: the other's.
        old: what the successor is to be like.
        overlap: seconds.
        now: Unix seconds.

    Raises:
        InputError: `key_ended` or `key_rotated`.
    """
    if old.revoked is not None or (old.expires is not None and old.expires <= now):
        raise error("key_ended", "That key was revoked or has expired; create a new one.", param="prefix")
    heir = successor(prefix)
    key = new_key(heir)
    expires = None if old.expires is None else now + old.expires - old.created
    like = old.project, old.name, old.scope
    if not (yield MAKE([(heir, old.family, digest(key), *like, now, expires)])):
        raise error(
            "key_rotated",
            f"That key was rotated before; rotate its successor, {heir}, or create a new one.",
            param="prefix",
        )
    yield EXPIRE([(prefix, now + overlap)])
    return key
