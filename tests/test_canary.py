"""A record of distinctive values is nowhere on the server's side, unless it was sent in plaintext.

The haystack is everything the service keeps or carries: its folder, its log, its temporary files, what
its workers hold open, and every byte on the wire in both directions. The needles are each value's
binary and decimal forms. The plaintext run finds them, so the search works.
"""

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import serving

from cloakwork import Client


def needles(record):
    """The forms in which a value could lie in memory, in a file or on the wire."""
    for value in record.ravel()[:2]:
        yield struct.pack("<f", value)
        yield struct.pack("<d", value)
        yield struct.pack(">d", value)
        yield f"{value:.5f}".encode()
        yield repr(float(value)).encode()


@contextmanager
def wiretap(port):
    """Forward a port and keep every byte that passes, both ways."""
    heard = bytearray()
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source, sink):
        while data := source.recv(1 << 16):
            heard.extend(data)
            sink.sendall(data)
        sink.close()

    def accept():
        while True:
            try:
                inside, _ = listener.accept()
            except OSError:
                return
            outside = socket.create_connection(("127.0.0.1", port))
            for pair in ((inside, outside), (outside, inside)):
                threading.Thread(target=quietly, args=(pump, *pair), daemon=True).start()

    def quietly(work, *arguments):
        with suppress(OSError):
            work(*arguments)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], heard
    finally:
        listener.close()


def kept(server):
    """Everything on disk that the service could have written, and what its processes hold open."""
    for path in [*server.home.root.rglob("*"), *server.log.parent.rglob("*")]:
        if path.is_file():
            yield path.read_bytes()
    for pid in [server.process.pid, *server.workers()]:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = Path(f"/proc/{pid}/fd/{descriptor.name}")
            if target.is_file():
                yield target.read_bytes()


@pytest.mark.parametrize("model", ["tumor-risk", "digits"])
@pytest.mark.parametrize("mode", ["plaintext", "anonymized", "encrypted"])
def test_only_plaintext_shows_the_record(fresh_home, tmp_path, held_out, model, mode):
    record = held_out(model)[0][0].copy()
    record.ravel()[:2] = [13.31072, 11.40517]
    logs = tmp_path / "logs"
    logs.mkdir()
    with serving(fresh_home, logs / "gateway.log") as server, wiretap(server.port) as (port, heard):
        with Client(f"http://127.0.0.1:{port}", server.key) as client:
            client.run(model, record, privacy=mode)
        assert server.workers()
        on_disk = b"".join(kept(server))
    assert server.key[:11].encode() in on_disk, "the search must see the database"
    assert b"/run?privacy=" in heard, "the search must see the wire"
    found_on_wire = [needle for needle in needles(record) if needle in heard]
    found_on_disk = [needle for needle in needles(record) if needle in on_disk]
    assert found_on_disk == []
    assert bool(found_on_wire) == (mode == "plaintext")
