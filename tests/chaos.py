"""A gateway under load, killed with SIGKILL at random moments and started again, and what its books say."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import uuid4

from cloakwork_functions.ledger import open_store
from cloakwork_functions.ledger.audit import audit
from cloakwork_functions.ledger.statement import Statement

CLI = (sys.executable, "-m", "cloakwork.cli")
BODY = json.dumps({"input": [0.5] * 30}).encode()
CHARGED = Statement(
    "SELECT runs.id, runs.idempotency, ends.amount FROM runs JOIN ends ON ends.run = runs.id "
    "WHERE outcome IN ('answered', 'abandoned')"
)
HOLDING = Statement("SELECT DISTINCT gateway FROM holds")
ENDED = Statement("SELECT count(*) FROM runs LEFT JOIN ends ON ends.run = runs.id WHERE ends.run IS NULL")


@dataclass
class Chaos:
    """What happened, from the outside and by the books.

    Attributes:
        acknowledged: by the client's name for a call, its run and what it cost.
        kills: how often the gateway was killed.
        unsound: what audits found, and holds of dead gateways that stayed open.
    """

    acknowledged: dict[str, tuple[str, int]] = field(default_factory=dict)
    kills: int = 0
    unsound: list[str] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0


async def chaos(home, database, port, kills, *, callers=8, longest=1.0, seed=0, progress=lambda kills: None):
    """Kill a gateway so many times while callers call it; a call is repeated under its name until answered.

    Args:
        home: with models and without books.
        database: address of a Postgres, or None for SQLite.
        port: to listen on, the same every time.
        kills: how many.
        callers: connections at once.
        longest: most seconds from a start to a kill.
        seed: of the moments.
        progress: told after each kill.
    """
    moments, seen = random.Random(seed), Chaos()
    gateway = Gateway(home, database, port)
    key = await gateway.key()
    over = asyncio.Event()
    calling = [asyncio.create_task(call_on(port, key, seen, over)) for _ in range(callers)]
    while seen.kills < kills:
        await gateway.start()
        await asyncio.sleep(moments.uniform(0, longest))
        await gateway.kill()
        seen.kills += 1
        await look(gateway, seen)
        progress(seen.kills)
    await gateway.start()
    over.set()
    await asyncio.gather(*calling)
    await settled(gateway, seen)
    await gateway.stop()
    return seen


@dataclass
class Gateway:
    """`cloakwork serve`, again and again on the same books."""

    home: object
    database: str | None
    port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def environment(self):
        told = {"CLOAKWORK_HOME": str(self.home.root)}
        return os.environ | told | ({"CLOAKWORK_DATABASE_URL": self.database} if self.database else {})

    async def key(self):
        """Make an API key whose account can pay for all of it."""
        pipe = asyncio.subprocess.PIPE
        made = await asyncio.create_subprocess_exec(*CLI, "keys", "create", env=self.environment, stdout=pipe)
        key, _ = await made.communicate()
        command = (*CLI, "accounts", "credit", "default", "1000", "--reference", uuid4().hex)
        credit = await asyncio.create_subprocess_exec(*command, env=self.environment, stdout=pipe)
        await credit.communicate()
        assert credit.returncode == 0
        return key.decode().strip()

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            *CLI, "serve", "--quiet", "--port", str(self.port), env=self.environment,
            stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        greeting = await self.process.stdout.readline()
        assert b"http://" in greeting

    async def kill(self):
        """Kill it; its workers, which are processes of their own, end when they find it gone."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self):
        self.process.terminate()
        await self.process.wait()

    async def read(self, work):
        store = await open_store(self.home.database, self.database)
        try:
            return await store.read(work)
        finally:
            await store.close()


def free_port():
    """A port to come back to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


async def call_on(port, key, seen, over):
    """Call until it is over, each call under a name of its own and again and again until it is answered."""
    while not over.is_set():
        name = uuid4().hex
        answer = None
        while answer is None:
            with suppress(OSError, asyncio.IncompleteReadError, ValueError):
                answer = await call(port, key, name)
            if answer is None:
                await asyncio.sleep(0.02)
        seen.acknowledged[name] = answer


async def call(port, key, name):
    """One try: run and cost, or None for an answer that asks for another."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            b"POST /v1/models/tumor-risk/run HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            b"content-type: application/json\r\n"
            + f"authorization: Bearer {key}\r\nidempotency-key: {name}\r\n".encode()
            + f"content-length: {len(BODY)}\r\n\r\n".encode()
            + BODY
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
        status = int(head.split()[1])
        if status != 200:
            assert status in {409, 503}, head
            return None
        return headers["x-request-id"], int(headers["cloakwork-cost-nano-usd"])
    finally:
        writer.close()


async def look(gateway, seen):
    """What the books say right after a kill: sound, whatever is still held."""
    seen.unsound += await gateway.read(audit())


async def settled(gateway, seen):
    """What the books say when all is done: nothing held, nothing lost, nothing charged twice."""
    for _ in range(100):
        if not await gateway.read(answered(HOLDING)):
            break
        await asyncio.sleep(0.1)
    else:
        seen.unsound.append("holds of dead gateways stay open")
    ((unended,),) = await gateway.read(answered(ENDED))
    if unended:
        seen.unsound.append(f"{unended} runs have not ended")
    seen.unsound += await gateway.read(audit())
    charged = {}
    for run, name, amount in await gateway.read(answered(CHARGED)):
        charged.setdefault(name, []).append((run, amount))
    seen.doubled = sum(len(runs) > 1 for runs in charged.values())
    seen.lost = sum(answer not in charged.get(name, []) for name, answer in seen.acknowledged.items())


def answered(statement):
    return (yield statement())
