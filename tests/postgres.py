"""A real Postgres for tests: a server of their own, on loopback, as durable as in production."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import asyncpg
import pytest

PATIENCE = 30.0
# Postgres refuses to run as root; Debian's package makes a user for it.
AS_USER = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


class Cluster:
    """A server and its databases.

    Args:
        programs: the folder with those of the server.
        folder: to keep all in, of the user that it runs as.
    """

    def __init__(self, programs, folder):
        self._data = folder / "data"
        self._log = folder / "log"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port = listener.getsockname()[1]
        self._command = [programs / "postgres", "-D", self._data, "-k", folder]
        self._command += ["-h", "127.0.0.1", "-p", str(self._port)]
        self._process = None
        self._numbers = count(1)
        make = [programs / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"]
        subprocess.run([*make, "--locale=C"], check=True, stdout=subprocess.DEVNULL, cwd="/", **AS_USER)

    def url(self, database="postgres"):
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    def start(self):
        """Start, and wait until it answers; after a crash it may have to wait for what is left of it."""
        deadline = time.monotonic() + PATIENCE
        with self._log.open("a") as log:
            while time.monotonic() < deadline:
                if self._process is None or self._process.poll() is not None:
                    self._process = subprocess.Popen(
                        self._command, stdout=log, stderr=log, cwd="/", **AS_USER
                    )
                if asyncio.run(answers(self.url())):
                    return
                time.sleep(0.05)
        raise AssertionError(f"Postgres does not start: {self._log.read_text()}")

    def stop(self):
        """End as an operator does, hanging up on whoever is there."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(PATIENCE)

    def kill(self):
        """End as a power cut does, the server and all its sessions."""
        main = self._process.pid
        sessions = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        for process in [main, *map(int, sessions)]:
            os.kill(process, signal.SIGKILL)
        self._process.wait(PATIENCE)

    @contextmanager
    def down(self):
        """Kill it, and start it again in the end."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def database(self):
        """Make an empty database, and drop it in the end."""
        name = f"test_{next(self._numbers)}"
        asyncio.run(say(self.url(), f"CREATE DATABASE {name}"))
        try:
            yield self.url(name)
        finally:
            asyncio.run(say(self.url(), f"DROP DATABASE {name} WITH (FORCE)"))


async def say(url, statement):
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def answers(url):
    try:
        await say(url, "SELECT 1")
    except (OSError, asyncpg.PostgresError):
        return False
    return True


def programs():
    """The folder with the server's programs, or None; Debian keeps them away from PATH."""
    found = [Path(path).resolve().parent for path in [shutil.which("postgres")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in found if (folder / "initdb").exists()), None)


@contextmanager
def serving():
    """Run a server until the end, and leave nothing of it."""
    folder = Path(tempfile.mkdtemp(prefix="cloakwork-postgres-"))
    try:
        if AS_USER:
            shutil.chown(folder, AS_USER["user"], AS_USER["group"])
        cluster = Cluster(programs(), folder)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cluster():
    """The server that tests share; without one they are skipped, though never in CI."""
    if programs() is None:
        assert os.environ.get("CI") != "true", "CI must not skip the tests on Postgres"
        pytest.skip("there is no Postgres here: apt-get install postgresql")
    with serving() as cluster:
        yield cluster


@pytest.fixture
def postgres_url(cluster):
    """An empty database."""
    with cluster.database() as url:
        yield url
