"""The API's endpoints: each reads its request, asks the service, and writes its answer.

They are plain ASGI callables, because Starlette's request and response objects cost more than the rest
of a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from cloakwork.chunk import Chunk
from cloakwork.errors import InputError, NotFoundError
from cloakwork.wire import Header, Media, Mode, ModelList, Path

from .auth import Auth, check_model
from .billing import Billing
from .http import (
    PIECE_BYTES,
    Memory,
    body_size,
    header,
    hung_up,
    query,
    read_body,
    read_pieces,
    send_answer,
    send_json,
)
from .manage import Manage
from .openapi import document
from .run import Asked, Caller, run
from .service import BODY_BYTES, RUN_SECONDS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from .service import Service

__all__ = ["routes"]

IN_FLIGHT_BYTES = 512 << 20
MAX_IDEMPOTENCY_KEY = 255
MAX_DIGITS = 15
MIN_TIMEOUT = 0.001


def routes(service: Service) -> list[Route]:
    """Make the endpoints."""
    auth = Auth(service.keys)
    api, billing, manage = Api(service, auth), Billing(service, auth), Manage(service, auth)

    def route(path: str, endpoint: ASGIApp, *methods: str) -> Route:
        return Route(path, Plain(endpoint, methods))

    return [
        route(Path.RUN, api.run, "POST"),
        route(Path.MODELS, api.models, "GET"),
        route(Path.MODE, api.mode, "GET"),
        route(Path.EVALUATION_KEYS, api.evaluation_keys, "GET", "PUT", "DELETE"),
        route(Path.QUOTE, billing.quote, "POST"),
        route(Path.MODEL, api.model, "GET"),
        route(Path.USAGE, billing.usage, "GET"),
        route(Path.INVOICE, billing.invoice, "GET"),
        route(Path.RECEIPTS, billing.receipts, "GET"),
        route(Path.OWN_KEY, manage.own, "GET"),
        route(Path.KEYS, manage.keys, "GET", "POST"),
        route(Path.KEY_ROTATION, manage.rotate, "POST"),
        route(Path.KEY, manage.key, "GET", "DELETE"),
        route(Path.JWKS, api.jwks, "GET"),
        route(Path.HEALTH, api.health, "GET"),
        route(Path.READY, api.ready, "GET"),
        route(Path.OPENAPI, api.openapi, "GET"),
    ]


class Plain:
    """An endpoint that Starlette leaves alone: it wraps functions, and takes other callables as they are."""

    def __init__(self, endpoint: ASGIApp, methods: tuple[str, ...]) -> None:
        self._endpoint = endpoint
        self.methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in self.methods:
            raise NotFoundError("method_not_allowed", f"This path answers {', '.join(self.methods)} only.")
        await self._endpoint(scope, receive, send)


class Api:
    """The endpoints of one service."""

    def __init__(self, service: Service, auth: Auth) -> None:
        self._service = service
        self._auth = auth
        self._memory = Memory(IN_FLIGHT_BYTES)

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/models/{model}/run?privacy=MODE."""
        identity, model = await self._auth.identify(scope), scope["path_params"]["model"]
        mode = Mode(query(scope, "privacy", Mode.PLAINTEXT))
        identity.scope.check(model.partition("@")[0], mode)  # before any of the body is read
        caller = Caller(
            scope["request_id"],
            identity,
            _idempotency(scope),
            _timeout(scope),
            header(scope, "accept") or "",
            lambda: hung_up(receive),
        )
        media = (header(scope, "content-type") or "").partition(";")[0].strip()
        size = body_size(scope, BODY_BYTES)
        with self._memory.reserve(size):
            body = await read_body(receive, size)
            answer = await run(self._service, caller, Asked(model, mode, media, body))
        await send_answer(send, answer.body, answer.media, answer.headers)

    async def models(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """GET /v1/models."""
        await self._auth.identify(scope)
        priced = map(self._service.catalogue.priced, self._service.registry.list())
        await send_json(send, ModelList(tuple(priced)))

    async def model(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """GET /v1/models/{model}."""
        await self._auth.identify(scope)
        info = self._service.registry.resolve(scope["path_params"]["model"])
        await send_json(send, self._service.catalogue.priced(info))

    async def mode(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """GET /v1/models/{model}/modes/{mode}?program=NAME: the client's public half of a mode."""
        identity, model = await self._auth.identify(scope), scope["path_params"]["model"]
        check_model(identity, model)
        mode = Mode(scope["path_params"]["mode"])
        document = self._service.public_half(model, mode, query(scope, "program", ""))
        await send_answer(send, document, Media.JSON)

    async def evaluation_keys(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET, PUT or DELETE /v1/models/{model}/evaluation-keys/{fingerprint}."""
        identity, service = await self._auth.identify(scope), self._service
        model, fingerprint = scope["path_params"]["model"], scope["path_params"]["fingerprint"]
        identity.scope.check(model.partition("@")[0], Mode.ENCRYPTED)
        account = identity.account
        if scope["method"] == "PUT":
            chunk = _chunk(scope)
            with self._memory.reserve(PIECE_BYTES):
                pieces = read_pieces(receive)
                standing = await service.accept_keys(account, model, fingerprint, chunk, pieces)
        else:
            if scope["method"] == "DELETE":
                service.keystore.discard(account, fingerprint)
            standing = service.keystore.standing(account, fingerprint)
        await send_json(send, standing)

    async def health(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """GET /healthz: the process answers."""
        await send_json(send, {"status": "alive"})

    async def ready(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """GET /readyz: the ledger can be read and there is a model to run."""
        models = len(self._service.registry.list())
        ready = bool(models) and await self._service.ledger.ready()
        await send_json(
            send, {"status": "ready" if ready else "not ready", "models": models}, 200 if ready else 503
        )

    async def jwks(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """GET /.well-known/jwks.json: the keys that receipts are verified by."""
        await send_json(send, self._service.signing.jwks())

    async def openapi(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """GET /openapi.json."""
        await send_json(send, document())


def _idempotency(scope: Scope) -> str | None:
    key = header(scope, Header.IDEMPOTENCY_KEY)
    if key is not None and not (0 < len(key) <= MAX_IDEMPOTENCY_KEY and key.isascii() and key.isprintable()):
        raise InputError(
            "bad_request",
            f"An idempotency key is 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters.",
            param=Header.IDEMPOTENCY_KEY,
        )
    return key


def _chunk(scope: Scope) -> Chunk:
    """Tell which bytes of the keys a body brings: all of them, unless it says so."""
    length, text = header(scope, "content-length"), header(scope, Header.CONTENT_RANGE)
    if length is None or not length.isdecimal():
        raise InputError("bad_request", "Say the body's size in Content-Length.", param="content-length")
    size = int(length[:MAX_DIGITS])
    chunk = Chunk(0, size, size) if text is None else Chunk.parse(text)
    if chunk.size != size:
        raise InputError(
            "upload_range_invalid",
            f"Content-Range names {chunk.size} bytes and the body has {size}; name the body's.",
            param=Header.CONTENT_RANGE,
        )
    return chunk


def _timeout(scope: Scope) -> float:
    """Give the seconds that the caller will wait, at least 1 ms and never more than we run anything for."""
    text = header(scope, Header.TIMEOUT)
    try:
        seconds = RUN_SECONDS if text is None else float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= MIN_TIMEOUT:
        raise InputError(
            "bad_request",
            f"The timeout must be a number of seconds, at least {MIN_TIMEOUT}.",
            param=Header.TIMEOUT,
        )
    return min(seconds, RUN_SECONDS)
