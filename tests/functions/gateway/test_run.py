"""One call's walk, over real books, with a runtime that runs when the test says so."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import numpy as np
import pytest

from cloakwork.errors import PaymentError, error
from cloakwork.price import Price
from cloakwork.quote import QuoteInput
from cloakwork.wire import Card, Header, Mode, Offer, Tensor
from cloakwork_functions.gateway import create_app, open_service
from cloakwork_functions.gateway.quote import quote_all
from cloakwork_functions.home import Home
from cloakwork_functions.ledger.accounts import open_account, read_account
from cloakwork_functions.ledger.scope import Scope
from cloakwork_functions.ledger.usage import Period, usage
from cloakwork_functions.registry import Registry
from cloakwork_functions.runtime import Computed

CREDIT = 10 * 10**9
PRICE = 1_000


class Engine:
    """A runtime whose calls begin and end when told to."""

    def __init__(self):
        self.asked, self.begun = asyncio.Event(), asyncio.Event()
        self.beginning, self.ending = asyncio.Event(), asyncio.Event()
        self.cancelled = 0
        self.failure = None

    async def run(self, call, timeout, begun=lambda: None):
        try:
            self.asked.set()
            await self.beginning.wait()
            begun()
            self.begun.set()
            await self.ending.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        return Computed(np.ones(call.records * 2, "<f4").tobytes(), 700)

    async def close(self):
        self.failure = error("worker_failed", "stopping")
        self.beginning.set()
        self.ending.set()


class Gateway:
    """A gateway in this process, and one key to it."""

    def __init__(self, service, engine, key):
        self.service, self.engine, self.key = service, engine, key
        self.app = create_app(service)
        self.gone = asyncio.Event()

    async def ask(self, name=None, timeout=None, query=b"privacy=plaintext"):
        """Give the status, the code or the cost, and the body."""
        body = [json.dumps({"input": [1, 2, 3]}).encode()]
        sent = []

        async def receive():
            if not body:
                await self.gone.wait()
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": body.pop()}

        async def send(message):
            sent.append(message)

        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        if name is not None:
            headers[Header.IDEMPOTENCY_KEY] = name
        if timeout is not None:
            headers[Header.TIMEOUT] = str(timeout)
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/models/m/run",
            "query_string": query,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        await self.app(scope, receive, send)
        said = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        answer = json.loads(sent[1]["body"])
        result = answer["error"]["code"] if "error" in answer else int(said[Header.COST])
        return sent[0]["status"], result, answer

    async def money(self):
        account = await self.service.store.read(read_account("acme"))
        return account.available, account.held

    async def outcomes(self):
        today = datetime.now(UTC).date()
        period = Period(today - timedelta(days=1), today)
        rows = await self.service.store.survey(usage("acme", period, ("outcome",)))
        return {row.outcome: row.calls for row in rows}

    async def settled(self):
        """Wait for calls that nobody else waits for."""
        await self.service.calls.close()


@pytest.fixture
def inside(tmp_path):
    """Runs a test's coroutine with a gateway."""
    folder = tmp_path / "m"
    folder.mkdir()
    shapes = Tensor((3,), "float32", "pixel"), Tensor((2,), "float32", "probability")
    offer = Offer(PRICE, 1.0, "the record itself", 100)
    card = Card("m", "", "", *shapes, {Mode.PLAINTEXT: offer}, {}, {}, "", "", "")
    (folder / "card.json").write_bytes(msgspec.json.encode(card))
    home = Home(tmp_path / "home")
    home.make()
    Registry(home.registry).publish(folder)

    @asynccontextmanager
    async def opened():
        engine = Engine()
        async with open_service(home, runtime=engine) as service:
            project = await service.store.transact(open_account("acme"))
            yield Gateway(service, engine, await service.keys.create(project, "test", Scope(manage=True)))

    def run(work):
        async def enter():
            async with opened() as gateway:
                return await asyncio.wait_for(work(gateway), 30)

        return asyncio.run(enter())

    return run


def test_out_of_time_in_the_queue_costs_nothing_and_computes_nothing(inside):
    async def work(gateway):
        said = await gateway.ask("k", timeout=0.05)
        assert said[:2] == (504, "deadline_exceeded")
        assert gateway.engine.cancelled == 1
        assert await gateway.money() == (CREDIT, 0), "given back before the caller was told"
        gateway.engine.beginning.set()
        gateway.engine.ending.set()
        assert (await gateway.ask("k"))[:2] == (200, PRICE)
        assert await gateway.outcomes() == {"failed": 1, "answered": 1}

    inside(work)


def test_out_of_time_after_it_began_is_finished_charged_and_kept(inside):
    async def work(gateway):
        gateway.engine.beginning.set()
        said = await gateway.ask("k", timeout=0.05)
        assert said[:2] == (504, "deadline_exceeded")
        assert await gateway.money() == (CREDIT - PRICE, PRICE)
        assert (await gateway.ask("k"))[:2] == (409, "in_flight")
        gateway.engine.ending.set()
        await gateway.settled()
        assert await gateway.money() == (CREDIT - PRICE, 0)
        again = await gateway.ask("k")
        assert again[:2] == (200, PRICE)
        assert again[2]["output"] == [1.0, 1.0]
        assert await gateway.outcomes() == {"abandoned": 1}
        assert gateway.engine.cancelled == 0

    inside(work)


@pytest.mark.parametrize("leave", ["hangs up", "is cancelled"])
@pytest.mark.parametrize("begun", [False, True])
def test_who_leaves_pays_for_what_began(inside, begun, leave):
    async def work(gateway):
        if begun:
            gateway.engine.beginning.set()
        call = asyncio.create_task(gateway.ask("k"))
        await (gateway.engine.begun if begun else gateway.engine.asked).wait()
        if leave == "hangs up":
            gateway.gone.set()
            assert (await call)[:2] == (499, "client_gone")
            gateway.gone.clear()
        else:
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        gateway.engine.ending.set()
        await gateway.settled()
        paid = PRICE if begun else 0
        assert await gateway.money() == (CREDIT - paid, 0)
        assert await gateway.outcomes() == {"abandoned" if begun else "failed": 1}

    inside(work)


def test_who_leaves_while_its_call_is_held_gets_that_back(inside):
    async def work(gateway):
        ledger, hold = gateway.service.ledger, gateway.service.ledger.hold
        held, on = asyncio.Event(), asyncio.Event()

        async def slow(*asked):
            answer = await hold(*asked)
            held.set()
            await on.wait()
            return answer

        ledger.hold = slow
        call = asyncio.create_task(gateway.ask("k"))
        await held.wait()
        call.cancel()
        await asyncio.sleep(0)
        assert await gateway.money() == (CREDIT - PRICE, PRICE)
        on.set()
        await gateway.settled()
        assert await gateway.money() == (CREDIT, 0)
        assert not gateway.engine.asked.is_set()

    inside(work)


def test_a_service_that_closes_waits_for_calls_that_nobody_waits_for(inside, caplog):
    async def work(gateway):
        gateway.engine.beginning.set()
        assert (await gateway.ask(timeout=0.05))[1] == "deadline_exceeded"
        return gateway.service.calls

    calls = inside(work)
    assert not calls._tasks
    assert "an abandoned call failed: ServerError" in caplog.text


@pytest.mark.parametrize("timeout", ["0", "0.0009", "-1", "nan", "soon"])
def test_a_timeout_that_is_none_is_refused(inside, timeout):
    async def work(gateway):
        assert (await gateway.ask(timeout=timeout))[:2] == (400, "bad_request")

    inside(work)


@pytest.mark.parametrize("unit", ["token", "ciphertext"])
def test_a_price_by_what_is_not_counted_is_none(inside, unit):
    async def work(gateway):
        # The catalogue takes no such price, but another version of it may have.
        gateway.service.catalogue.price = lambda *_: Price(1, {"call": 5_000_000, unit: 1})
        assert (await gateway.ask())[:2] == (503, "no_price")
        with pytest.raises(PaymentError) as refused:
            quote_all(gateway.service, "m", QuoteInput(1, None))
        assert refused.value.code == "no_price"
        assert await gateway.outcomes() == {}
        gateway.engine.beginning.set()
        gateway.engine.ending.set()
        gateway.service.catalogue.price = lambda *_: Price(1, {"call": 5_000_000, unit: 0})
        assert (await gateway.ask())[:2] == (200, 5_000)

    inside(work)


def test_computing_is_charged_as_the_runtime_measured_it_whatever_the_timeout(inside):
    async def work(gateway):
        rates = {"microsecond": Decimal("0.000000003")}
        await gateway.service.catalogue.set("m", Mode.PLAINTEXT, rates)
        gateway.engine.beginning.set()
        gateway.engine.ending.set()
        assert (await gateway.ask())[:2] == (200, 2_100)
        gateway.engine.ending.clear()
        with_little_time = asyncio.create_task(gateway.ask(timeout=0.05))
        assert (await with_little_time)[1] == "deadline_exceeded"
        gateway.engine.ending.set()
        await gateway.settled()
        assert await gateway.money() == (CREDIT - 2 * 2_100, 0)

    inside(work)
