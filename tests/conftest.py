"""What many tests share: models trained once, published once, and a real gateway in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx
import pytest
from postgres import cluster, postgres_url  # noqa: F401 (fixtures are found by name)
from safetensors.numpy import load_file

from cloakwork import Client
from cloakwork_functions.home import Home
from cloakwork_functions.models import NAMES, train
from cloakwork_functions.registry import Registry

CLI = (sys.executable, "-m", "cloakwork.cli")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Train a model of the catalogue by its own recipe, once: name -> (card returned, folder)."""

    @cache
    def once(name):
        folder = tmp_path_factory.mktemp(name) / "artifact"
        return train(name, folder, seed=0), folder

    return once


@pytest.fixture(scope="session")
def home(tmp_path_factory, trained):
    """An operator's folder with both models published."""
    home = Home(tmp_path_factory.mktemp("home"))
    home.make()
    for name in NAMES:
        Registry(home.registry).publish(trained(name)[1])
    return home


@pytest.fixture(scope="session")
def held_out(trained):
    """Records that a model never saw in training, and their labels."""

    def read(name):
        tensors = load_file(trained(name)[1] / "heldout.safetensors")
        return tensors["records"], tensors["labels"]

    return read


@dataclass
class Server:
    """A gateway in a process of its own."""

    address: str
    key: str
    home: Home
    log: Path
    process: subprocess.Popen

    @property
    def port(self):
        return int(self.address.rpartition(":")[2])

    @property
    def headers(self):
        return {"authorization": f"Bearer {self.key}"}

    def descendants(self):
        """The process numbers of its nurseries and workers."""
        return list(descendants(self.process.pid))

    def workers(self):
        """The process numbers of its workers."""
        return [pid for pid in self.descendants() if not is_nursery(pid)]

    def post(self, path, **request):
        headers = self.headers | request.pop("headers", {})
        return httpx.post(self.address + path, headers=headers, timeout=60, **request)

    def run(self, model="tumor-risk", privacy="plaintext", **request):
        return self.post(f"/v1/models/{model}/run?privacy={privacy}", **request)

    def client(self):
        return Client(self.address, self.key)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def descendants(pid):
    """The process numbers of a process's children and theirs."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            yield child
            yield from descendants(child)


def is_nursery(pid):
    """Whether this is a nursery; the workers it forked have its command line, but it is their parent."""
    return b"runtime.nursery" in Path(f"/proc/{pid}/cmdline").read_bytes() and not is_nursery(parent(pid))


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def cli(home, *arguments):
    """Run a command line as an operator would."""
    environment = os.environ | {"CLOAKWORK_HOME": str(home.root)}
    done = subprocess.run([*CLI, *arguments], env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextmanager
def serving(home, log, *arguments):
    """Run a gateway, as `cloakwork serve` does."""
    environment = os.environ | {"CLOAKWORK_HOME": str(home.root), "TMPDIR": str(log.parent)}
    key = cli(home, "keys", "create", "--name", "test", "--manage")
    command = [*CLI, "serve", "--port", "0", *arguments]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            greeting = process.stdout.readline()
            found = re.search(r"http://\S+", greeting)
            assert found, f"no address in {greeting!r}; the log says {log.read_text()!r}"
            yield Server(found[0], key, home, log, process)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def fresh_home(home, tmp_path):
    """A home of a test's own: the published models, and empty books."""
    root = tmp_path / "home"
    root.mkdir(mode=0o700)
    (root / "registry").symlink_to(home.registry)
    return Home(root)


@pytest.fixture(scope="session")
def server(home, tmp_path_factory):
    """The gateway that tests share when they leave nothing behind."""
    with serving(home, tmp_path_factory.mktemp("server") / "gateway.log") as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def config(tmp_path_factory):
    """A user's folder that is not this user's."""
    folder = tmp_path_factory.mktemp("config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOAKWORK_CONFIG", str(folder))
        for name in ("BASE_URL", "API_KEY", "PROFILE", "HOME", "DATABASE_URL", "SECRET"):
            patch.delenv(f"CLOAKWORK_{name}", raising=False)
        yield folder


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client
