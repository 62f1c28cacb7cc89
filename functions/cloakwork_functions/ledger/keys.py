"""API keys: shown once when made, kept as a hash, asked for anew with every request."""

from __future__ import annotations

import hmac
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from cloakwork.errors import BusyError, error

from . import issue
from .allowance import set_allowance
from .apikey import ApiKey, Identity, Limits
from .keytext import digest
from .limits import ANY, set_limits
from .reader import Reader
from .scope import Scope
from .statement import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .allowance import Allowance
    from .statement import Work
    from .store import Store

__all__ = ["OVERLAP_SECONDS", "Keys", "touch", "unknown_key"]

OVERLAP_SECONDS = 24 * 3600
LONGEST_SECONDS = 100 * 365 * 24 * 3600
LONGEST_NAME = 100
MINUTE = 60

FIND = Statement(
    "SELECT keys.digest, projects.account, project, prefix, family, scope, expires, revoked "
    "FROM {batch} JOIN keys ON keys.digest = batch.digest JOIN projects ON projects.id = keys.project",
    "digest text",
)
# Nothing in place of an account or a prefix stands for all of them.
LIST = Statement(
    "SELECT keys.prefix, projects.account, project, keys.name, scope, keys.created, expires, revoked, "
    "last_used, per_minute, concurrency, cap, period, alert, term, spent "
    "FROM {batch} JOIN keys ON batch.prefix IS NULL OR keys.prefix = batch.prefix "
    "JOIN projects ON projects.id = project AND (batch.account IS NULL OR projects.account = batch.account) "
    "LEFT JOIN limits ON limits.key = keys.family AND limits.model = '*' "
    "LEFT JOIN budgets ON budgets.subject = 'key:' || keys.family ORDER BY keys.created, keys.prefix",
    "account text, prefix text",
)
REVOKE = Statement(
    "UPDATE keys SET revoked = batch.at FROM {batch} WHERE keys.prefix = batch.prefix",
    "prefix text, at bigint",
)
LOCK = Statement(
    "SELECT family, project, name, scope, created, expires, revoked FROM keys "
    "JOIN {batch} ON keys.prefix = batch.prefix WHERE batch.account IS NULL "
    "OR project IN (SELECT id FROM projects WHERE projects.account = batch.account) {lock}",
    "account text, prefix text",
)
TOUCH = Statement(
    "UPDATE keys SET last_used = batch.minute FROM {batch} "
    "WHERE keys.prefix = batch.prefix AND (last_used IS NULL OR last_used < batch.minute)",
    "prefix text, minute bigint",
)


class Found(NamedTuple):
    """A stored key, as a request needs it."""

    digest: str
    account: str
    project: str
    prefix: str
    family: str
    scope: str
    expires: int | None
    revoked: int | None


class Keys:
    """The keys in a store.

    Args:
        store: where they are.
        clock: gives Unix seconds.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._reader: Reader[str, Found | None] = Reader(store, _find)
        self._used: dict[str, int] = {}

    async def authenticate(self, key: str) -> Identity:
        """Tell whose key this is. The store is asked every time, so a revocation counts from the next on.

        Raises:
            AuthError: `wrong_key`, `revoked_key` or `expired_key`.
            BusyError: `ledger_unavailable`.
        """
        asked = digest(key)
        found = await self._reader.read(asked)
        if found is None or not hmac.compare_digest(found.digest, asked):
            raise error(
                "wrong_key", "This API key is not known here; check it, or create one with `cloakwork keys`."
            )
        now = int(self._clock())
        if found.revoked is not None:
            raise error(
                "revoked_key", f"The API key {found.prefix} was revoked; ask its owner for a new one."
            )
        if found.expires is not None and found.expires <= now:
            raise error(
                "expired_key", f"The API key {found.prefix} has expired; ask its owner for a new one."
            )
        self._used[found.prefix] = now - now % MINUTE
        scope = Scope.from_json(found.scope)
        return Identity(found.account, found.project, found.prefix, found.family, scope)

    async def write_use(self) -> None:
        """Write down when keys were last used, of those that were since the last time.

        Raises:
            BusyError: `ledger_unavailable`; the next time it is written.
        """
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._store.transact(touch(used))
        except BusyError:
            self._used = used | self._used
            raise

    async def create(
        self,
        project: str,
        name: str,
        scope: Scope | None = None,
        *,
        expires: int | None = None,
        limits: Limits | None = None,
        budget: Allowance | None = None,
    ) -> str:
        """Make a key and return it whole, for the only time.

        Args:
            project: its id.
            name: what the key is for.
            scope: what it may do; anything but manage, unless given.
            expires: Unix seconds from which on it is refused.
            limits: of its calls, and of its successors' with it.
            budget: of their spending.

        Raises:
            NotFoundError: `unknown_project`.
            InputError: `bad_request`.
        """
        if not (0 < len(name) <= LONGEST_NAME and name.isprintable()):
            raise error("bad_request", f"A name is 1 to {LONGEST_NAME} printable characters.", param="name")
        now = int(self._clock())
        if expires is not None and not now < expires <= now + LONGEST_SECONDS:
            raise error("bad_request", "A key expires in the future, within a century.", param="expires")
        return await self._store.transact(
            issue.create(
                project,
                name,
                scope or Scope(),
                now,
                expires=expires,
                limits=limits or Limits(),
                budget=budget,
            )
        )

    async def revoke(self, prefix: str, account: str | None = None) -> bool:
        """Refuse a key from now on; false if none of that prefix, of the account if one is named, is live."""
        return await self._store.transact(_revoke(account, prefix, int(self._clock())))

    async def rotate(self, prefix: str, overlap: int = OVERLAP_SECONDS, account: str | None = None) -> str:
        """Make the key that takes another's place, with the same scope; return it whole.

        They share their limits and their budget. The old one expires when the overlap, in seconds, is over.
        If it was made to expire, the new one lives as long as it was to.

        Raises:
            NotFoundError: `unknown_key`, there is none of that prefix, in the account if one is named.
            InputError: `key_ended`, it was revoked or has expired; `key_rotated`, it has a successor;
                `bad_request`.
        """
        if not 0 <= overlap <= LONGEST_SECONDS:
            raise error("bad_request", "An overlap is a number of seconds, from 0 on.", param="overlap")
        return await self._store.transact(_rotate(account, prefix, overlap, int(self._clock())))

    async def limit(self, prefix: str, limits: Limits, model: str = ANY, account: str | None = None) -> None:
        """Limit the calls of a key's family, or of each family (`*`), to a model or to all together (`*`).

        They take the place of the limits before; without any, calls are not limited.

        Raises:
            NotFoundError: `unknown_key`, there is none of that prefix, in the account if one is named.
            InputError: `scope_invalid`, the model's name is none.
        """
        await self._store.transact(_limit(account, prefix, limits, model))

    async def budget(self, prefix: str, budget: Allowance, account: str | None = None) -> None:
        """Give a key's family a budget, in place of the one before; what it has spent stays spent.

        Raises:
            NotFoundError: `unknown_key`, there is none of that prefix, in the account if one is named.
        """
        await self._store.transact(_budget(account, prefix, budget))

    async def get(self, prefix: str, account: str | None = None) -> ApiKey:
        """Show a key.

        Raises:
            NotFoundError: `unknown_key`, there is none of that prefix, in the account if one is named.
        """
        rows = await self._store.read(_list(account, prefix))
        if not rows:
            raise unknown_key()
        return ApiKey.of(rows[0], int(self._clock()))

    async def list(self, account: str | None = None) -> list[ApiKey]:
        """Show every key ever made, of an account or of all, oldest first."""
        rows = await self._store.read(_list(account, None))
        return [ApiKey.of(row, int(self._clock())) for row in rows]


def touch(used: Mapping[str, int]) -> Work[None]:
    """Write when keys, by prefix, were last used; never back."""
    yield TOUCH(sorted(used.items()))


def unknown_key() -> Exception:
    """The error for a prefix that no key has. It is not repeated: what was given may be a whole key."""
    return error("unknown_key", "No key has that prefix; `cloakwork keys list` shows them.", param="prefix")


def _find(digests: list[str]) -> Work[list[Found | None]]:
    found = {row[0]: Found(*row) for row in (yield FIND([(digest,) for digest in set(digests)]))}
    return [found.get(digest) for digest in digests]


def _list(account: str | None, prefix: str | None) -> Work[list[tuple[Any, ...]]]:
    if prefix is not None and not prefix.isprintable():  # which no database need hold
        return []
    return (yield LIST([(account, prefix)]))


def _lock(account: str | None, prefix: str) -> Work[issue.Old | None]:
    rows = (yield LOCK([(account, prefix)])) if prefix.isprintable() else []
    return issue.Old(*rows[0]) if rows else None


def _revoke(account: str | None, prefix: str, now: int) -> Work[bool]:
    key = yield from _lock(account, prefix)
    if key is None or key.revoked is not None:
        return False
    yield REVOKE([(prefix, now)])
    return True


def _rotate(account: str | None, prefix: str, overlap: int, now: int) -> Work[str]:
    key = yield from _lock(account, prefix)
    if key is None:
        raise unknown_key()
    return (yield from issue.rotate(prefix, key, overlap, now))


def _family(account: str | None, prefix: str) -> Work[str]:
    key = yield from _lock(account, prefix)
    if key is None:
        raise unknown_key()
    return key.family


def _limit(account: str | None, prefix: str, limits: Limits, model: str) -> Work[None]:
    family = prefix if prefix == ANY and account is None else (yield from _family(account, prefix))
    yield from set_limits(family, limits, model)


def _budget(account: str | None, prefix: str, budget: Allowance) -> Work[None]:
    family = yield from _family(account, prefix)
    yield from set_allowance(f"key:{family}", budget)
