"""The two clients: the same calls, blocking or awaited.

    with Client() as client:
        card = client.models.get("digits").card
        answer = client.run("digits", image, privacy="encrypted", deadline=30.0)

A batch is the same call with a leading batch dimension. `deadline` bounds the whole call in seconds:
key upload, retries and waits included.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

from .config import resolve
from .errors import TransportError
from .exchange import Pause
from .flow import Result, Session
from .transport import connect, connect_async
from .wire import Mode, ModelInfo

if TYPE_CHECKING:
    from types import TracebackType

    from .exchange import Flow

__all__ = ["AsyncClient", "Client"]

T = TypeVar("T")
DEADLINE = 60.0


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
