"""Against a server that misbehaves on purpose."""

import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cloakwork import AsyncClient, Client
from cloakwork.errors import CloakworkError, DeadlineError, TransportError


class Drip(BaseHTTPRequestHandler):
    """Answers one byte at a time, for ever."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "1000")
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(b" ")
                time.sleep(0.05)
        except OSError:
            pass

    def log_message(self, *arguments):
        pass


@pytest.fixture
def drip():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Drip)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_deadline_bounds_the_call_and_not_each_read(drip):
    began = time.monotonic()
    with Client(drip, "key") as client, pytest.raises(DeadlineError):
        client.models.list(deadline=0.5)
    assert time.monotonic() - began < 2.0


def test_the_async_client_keeps_the_same_deadline(drip):
    async def call():
        async with AsyncClient(drip, "key") as client:
            await client.models.list(deadline=0.5)

    with pytest.raises(DeadlineError):
        asyncio.run(call())


def test_nobody_listens():
    with Client("http://127.0.0.1:9", "key") as client, pytest.raises(TransportError) as failure:
        client.models.list(deadline=2.0)
    assert failure.value.code in {"connection_failed", "deadline_exceeded"}


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (502, b"<html>", "internal"),
        (200, b"<html>", "foreign_answer"),
        (301, b"", "internal"),
        (200, b"{}", "foreign_answer"),
    ],
)
def test_a_service_that_is_not_ours(status, body, code):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with (
            Client(f"http://127.0.0.1:{server.server_port}", "key") as client,
            pytest.raises(CloakworkError) as failure,
        ):
            client.models.list(deadline=10.0)
        assert failure.value.code == code
    finally:
        server.shutdown()
        server.server_close()
