"""A key's privacy floor, kept before anything is sent or sealed."""

import socket

import pytest

from cloakwork import AsyncClient, Client, PrivacyError
from cloakwork.config import Config
from cloakwork.flow import Session
from cloakwork.wire import Mode, Request

PLAINTEXT, ANONYMIZED, ENCRYPTED = Mode
SECRET = "Ab3dEf6h_" + "x" * 32
# What each kind of key refuses, written out.
REFUSES = {
    None: set(),
    f"cw_{SECRET}": set(),
    f"cwa_{SECRET}": {PLAINTEXT},
    f"cwe_{SECRET}": {PLAINTEXT, ANONYMIZED},
    "something else": set(),
}


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("key", REFUSES)
def test_a_mode_below_the_floor_is_refused_before_the_first_request(tmp_path, key, mode):
    flow = Session(Config("http://host", key, tmp_path)).run("m", [1.0], mode, 60.0, None)
    if mode in REFUSES[key]:
        with pytest.raises(PrivacyError) as refused:
            next(flow)
        assert (refused.value.code, refused.value.param) == ("below_privacy_floor", "privacy")
        assert SECRET not in str(refused.value)
    else:
        assert isinstance(next(flow), Request)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def listener():
    """A service that would notice a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def test_clients_refuse_without_a_connection(listener):
    import asyncio

    address, key = f"http://127.0.0.1:{listener.getsockname()[1]}", f"cwe_{SECRET}"

    async def call():
        async with AsyncClient(address, key) as client:
            await client.run("m", [1.0], privacy="anonymized")

    with Client(address, key) as client, pytest.raises(PrivacyError, match="only send records encrypted"):
        client.run("m", [1.0])
    with pytest.raises(PrivacyError, match="only send records encrypted"):
        asyncio.run(call())
    with pytest.raises(BlockingIOError):
        listener.accept()
