"""The endpoints about API keys: a key that manages makes, lists, rotates and revokes those of its account."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from cloakwork.errors import error
from cloakwork.wire import Media
from cloakwork_functions.ledger.accounts import read_account
from cloakwork_functions.ledger.allowance import Allowance  # noqa: TC001 (msgspec reads the annotations)
from cloakwork_functions.ledger.apikey import ApiKey, Limits
from cloakwork_functions.ledger.keys import OVERLAP_SECONDS
from cloakwork_functions.ledger.scope import Scope

from .delegation import check_delegation
from .http import body_size, read_body, send_answer, send_json

if TYPE_CHECKING:
    from starlette.types import Receive, Send
    from starlette.types import Scope as Request

    from cloakwork_functions.ledger import Identity

    from .auth import Auth
    from .service import Service

__all__ = ["KeyList", "MadeKey", "Manage", "NewKey", "OwnKey", "Rotation"]

ORDER_BYTES = 64 << 10
CREATED = 201


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to be made.

    Attributes:
        name: what it is for.
        project: whose budget its calls count in; that of the key that makes it unless given.
        scope: what it may do.
        expires: Unix seconds from which on it is refused.
        limits: of its calls, and of its successors' with it.
        budget: of their spending.
    """

    name: str
    project: str | None = None
    scope: Scope = msgspec.field(default_factory=Scope)
    expires: int | None = None
    limits: Limits = msgspec.field(default_factory=Limits)
    budget: Allowance | None = None


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to rotate a key: it goes on working for `overlap` seconds."""

    overlap: int = OVERLAP_SECONDS


@dataclass(frozen=True)
class MadeKey:
    """A key, whole, for the only time, and what will be shown of it."""

    key: str
    shown: ApiKey


@dataclass(frozen=True)
class KeyList:
    """An account's keys, oldest first."""

    keys: list[ApiKey]


@dataclass(frozen=True)
class OwnKey:
    """What a key may do and has spent; and its account's money in nano-USD, if it manages."""

    shown: ApiKey
    available: int | None = None
    held: int | None = None


NEW_KEY = msgspec.json.Decoder(NewKey)
ROTATION = msgspec.json.Decoder(Rotation)


class Manage:
    """The endpoints of one service."""

    def __init__(self, service: Service, auth: Auth) -> None:
        self._store = service.store
        self._keys = service.keys
        self._auth = auth

    async def own(self, request: Request, _receive: Receive, send: Send) -> None:
        """GET /v1/key: what the caller's key may do."""
        identity = await self._auth.identify(request)
        own = OwnKey(await self._keys.get(identity.prefix, identity.account))
        if identity.scope.manage:
            account = await self._store.read(read_account(identity.account))
            own = replace(own, available=account.available, held=account.held)
        await send_json(send, own)

    async def keys(self, request: Request, receive: Receive, send: Send) -> None:
        """GET or POST /v1/keys."""
        manager = await self._auth.identify_manager(request)
        if request["method"] == "POST":
            new: NewKey = await _order(request, receive, NEW_KEY)
            await _send_made(send, await self._create(manager, new))
        else:
            await send_json(send, KeyList(await self._keys.list(manager.account)))

    async def key(self, request: Request, _receive: Receive, send: Send) -> None:
        """GET or DELETE /v1/keys/{prefix}: show a key, or revoke it."""
        manager = await self._auth.identify_manager(request)
        prefix = request["path_params"]["prefix"]
        if request["method"] == "DELETE":
            await self._keys.revoke(prefix, manager.account)
        await send_json(send, await self._keys.get(prefix, manager.account))

    async def rotate(self, request: Request, receive: Receive, send: Send) -> None:
        """POST /v1/keys/{prefix}/rotate: make its successor."""
        manager = await self._auth.identify_manager(request)
        prefix = request["path_params"]["prefix"]
        how: Rotation = await _order(request, receive, ROTATION)
        old = await self._keys.get(prefix, manager.account)
        lives = None if old.expires is None else int(time.time()) + old.expires - old.created
        await self._check(manager, old.scope, lives)
        key = await self._keys.rotate(prefix, how.overlap, manager.account)
        await _send_made(send, await self._made(key))

    async def _create(self, manager: Identity, new: NewKey) -> MadeKey:
        project = new.project or manager.project
        if project.partition("/")[0] != manager.account:
            raise error("unknown_project", "This key's account has no such project.", param="project")
        await self._check(manager, new.scope, new.expires)
        key = await self._keys.create(
            project, new.name, new.scope, expires=new.expires, limits=new.limits, budget=new.budget
        )
        return await self._made(key)

    async def _check(self, manager: Identity, scope: Scope, expires: int | None) -> None:
        maker = await self._keys.get(manager.prefix, manager.account)
        check_delegation(maker, scope, expires)

    async def _made(self, key: str) -> MadeKey:
        return MadeKey(key, await self._keys.get(key.rpartition("_")[0]))


async def _order(request: Request, receive: Receive, decoder: msgspec.json.Decoder[Any]) -> Any:
    """Read what is asked for; an empty body asks for what is usual.

    Raises:
        InputError: `bad_json`, or what the members refuse.
    """
    body = await read_body(receive, body_size(request, ORDER_BYTES))
    try:
        return decoder.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise error("bad_json", "The body is not what /openapi.json describes.") from None


async def _send_made(send: Send, made: MadeKey) -> None:
    body = msgspec.json.encode(made)
    await send_answer(send, body, Media.JSON, {"cache-control": "no-store"}, CREATED)
