"""The two clients: the same calls, blocking or awaited.

    with Client() as client:
        card = client.models.get("digits").card
        answer = client.run("digits", image, privacy="encrypted", deadline=30.0)

A batch is the same call with a leading batch dimension. `deadline` bounds the whole call in seconds:
key upload, retries and waits included.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from . import billing, chain
from .config import resolve
from .errors import TransportError
from .exchange import Pause
from .flow import Result, Session
from .transport import connect, connect_async
from .wire import Mode, ModelInfo

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from types import TracebackType

    from .exchange import Flow
    from .jwks import Keys
    from .quote import Quote
    from .usage import UsageRow

__all__ = ["AsyncClient", "Client"]

T = TypeVar("T")
DEADLINE = 60.0
BY = ("day", "model", "mode")


class Client:
    """Calls models and waits for the answers. Safe to share between threads.

    Args:
        base_url: address of the service; "local:" runs models in this process, without a server.
        api_key: the API key. Both default to the environment, then the profile file.
        max_epsilon: most local differential privacy a record may spend in one anonymized call.

    Raises:
        ConfigError: no address is given anywhere.
    """

    def __init__(
        self, base_url: str | None = None, api_key: str | None = None, *, max_epsilon: float = 4.0
    ) -> None:
        self._session = Session(resolve(base_url, api_key, max_epsilon))
        self._transport = connect(self._session.config)
        self.models = Models(self)

    def run(
        self,
        model: str,
        input: Any,  # noqa: A002 (the field's word)
        *,
        privacy: str = Mode.PLAINTEXT,
        deadline: float = DEADLINE,
        idempotency_key: str | None = None,
    ) -> Result:
        """Run a model on one record, or on a batch of them.

        Args:
            model: a name, with an alias or version if wanted: `digits`, `digits@prod`, `digits@3`.
            input: an array, or nested lists, of the shape on the model's card.
            privacy: `plaintext`, `anonymized` or `encrypted`.
            deadline: seconds the whole call may take.
            idempotency_key: names the call, so that making it again is charged once; made here unless given.
                Anonymized and encrypted records are sealed anew each time, so there it can be used again only
                after a call that failed.

        Raises:
            CloakworkError: see `cloakwork.errors` for the tree.
        """
        return self._drive(self._session.run(model, input, Mode(privacy), deadline, idempotency_key))

    @overload
    def quote(self, model: str, input: Any, *, privacy: str, deadline: float = ...) -> Quote: ...

    @overload
    def quote(self, model: str, input: Any, *, deadline: float = ...) -> dict[Mode, Quote]: ...

    def quote(
        self,
        model: str,
        input: Any,  # noqa: A002 (the field's word)
        *,
        privacy: str | None = None,
        deadline: float = DEADLINE,
    ) -> Quote | dict[Mode, Quote]:
        """Tell what a call would cost, in one mode or in each that can be run on so many records.

        The input is counted here and stays here.

        Raises:
            CloakworkError: the call would be refused, for example with `no_price` or `too_many_records`.
        """
        if privacy is None:
            return self._drive(billing.quotes(self._session, model, input, None, deadline))
        return self._drive(billing.quote(self._session, model, input, Mode(privacy), deadline))

    def usage(
        self,
        since: date | str | None = None,
        until: date | str | None = None,
        by: Sequence[str] = BY,
        *,
        deadline: float = DEADLINE,
    ) -> tuple[UsageRow, ...]:
        """Tell what the key's project used, or its account if it manages, to the last nano-USD.

        Args:
            since: the first day, in UTC; 29 days before the last unless given.
            until: the last day; today unless given.
            by: what to group by, any of `day`, `model`, `mode`, `key`, `project` and `outcome`.
            deadline: seconds the whole call may take.
        """
        return self._drive(billing.usage(self._session, since, until, by, deadline)).rows

    def receipts(self, after: int = 0, *, deadline: float = DEADLINE) -> tuple[str, ...]:
        """Fetch the account's receipts after a sequence, in order; see `cloakwork.chain` to check them."""
        return self._drive(chain.receipts(self._session.exchange, after, deadline))

    def receipt_keys(self, *, deadline: float = DEADLINE) -> Keys:
        """Fetch the public keys that the service signs receipts with."""
        return self._drive(chain.receipt_keys(self._session.exchange, deadline))

    def close(self) -> None:
        """Close connections and stop what "local:" started."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drive(self, flow: Flow[T]) -> T:
        step = next(flow)
        while True:
            try:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = flow.send(None)
                    continue
                try:
                    answer = self._transport.send(step)
                except TransportError as broken:
                    step = flow.throw(broken)
                else:
                    step = flow.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result


class Models:
    """`client.models`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, *, deadline: float = DEADLINE) -> tuple[ModelInfo, ...]:
        """List the published models with their cards."""
        return self._client._drive(self._client._session.models(deadline))  # noqa: SLF001 (one class in two)

    def get(self, model: str, *, deadline: float = DEADLINE) -> ModelInfo:
        """Fetch one model's card.

        Raises:
            NotFoundError: `unknown_model`.
        """
        return self._client._drive(self._client._session.model(model, deadline))  # noqa: SLF001


class AsyncClient:
    """`Client`, awaited. Sealing and opening are computed in the calling task.

    Args and errors are those of `Client`.
    """

    def __init__(
        self, base_url: str | None = None, api_key: str | None = None, *, max_epsilon: float = 4.0
    ) -> None:
        self._session = Session(resolve(base_url, api_key, max_epsilon))
        self._transport = connect_async(self._session.config)
        self.models = AsyncModels(self)

    async def run(
        self,
        model: str,
        input: Any,  # noqa: A002 (the field's word)
        *,
        privacy: str = Mode.PLAINTEXT,
        deadline: float = DEADLINE,
        idempotency_key: str | None = None,
    ) -> Result:
        """Run a model; see `Client.run`. Cancelling the task abandons the call."""
        return await self._drive(self._session.run(model, input, Mode(privacy), deadline, idempotency_key))

    @overload
    async def quote(self, model: str, input: Any, *, privacy: str, deadline: float = ...) -> Quote: ...

    @overload
    async def quote(self, model: str, input: Any, *, deadline: float = ...) -> dict[Mode, Quote]: ...

    async def quote(
        self,
        model: str,
        input: Any,  # noqa: A002 (the field's word)
        *,
        privacy: str | None = None,
        deadline: float = DEADLINE,
    ) -> Quote | dict[Mode, Quote]:
        """Tell what a call would cost; see `Client.quote`."""
        if privacy is None:
            return await self._drive(billing.quotes(self._session, model, input, None, deadline))
        return await self._drive(billing.quote(self._session, model, input, Mode(privacy), deadline))

    async def usage(
        self,
        since: date | str | None = None,
        until: date | str | None = None,
        by: Sequence[str] = BY,
        *,
        deadline: float = DEADLINE,
    ) -> tuple[UsageRow, ...]:
        """Tell what was used; see `Client.usage`."""
        return (await self._drive(billing.usage(self._session, since, until, by, deadline))).rows

    async def receipts(self, after: int = 0, *, deadline: float = DEADLINE) -> tuple[str, ...]:
        """Fetch the account's receipts after a sequence; see `Client.receipts`."""
        return await self._drive(chain.receipts(self._session.exchange, after, deadline))

    async def receipt_keys(self, *, deadline: float = DEADLINE) -> Keys:
        """Fetch the public keys that the service signs receipts with."""
        return await self._drive(chain.receipt_keys(self._session.exchange, deadline))

    async def close(self) -> None:
        """Close connections and stop what "local:" started."""
        await self._transport.close_async()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _drive(self, flow: Flow[T]) -> T:
        import asyncio

        step = next(flow)
        while True:
            try:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = flow.send(None)
                    continue
                try:
                    answer = await self._transport.send_async(step)
                except TransportError as broken:
                    step = flow.throw(broken)
                else:
                    step = flow.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result


class AsyncModels:
    """`client.models`, awaited."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list(self, *, deadline: float = DEADLINE) -> tuple[ModelInfo, ...]:
        """List the published models with their cards."""
        return await self._client._drive(self._client._session.models(deadline))  # noqa: SLF001

    async def get(self, model: str, *, deadline: float = DEADLINE) -> ModelInfo:
        """Fetch one model's card; see `Models.get`."""
        return await self._client._drive(self._client._session.model(model, deadline))  # noqa: SLF001
