"""A record of distinctive values is nowhere on the server's side, unless it was sent in plaintext.

The haystack is everything the service keeps or carries: its folder, its log, its temporary files, what
its workers hold open, and every byte on the wire in both directions. The needles are the binary and decimal
forms of the values. The plaintext run finds them on the wire, and what the service does store is found on the
disk, so the search works.

No transformed record holds such needles, though, noised and encrypted or not. So what left in the other two
modes is also read the way a curious service would read it.
"""

import re
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import tenseal.sealapi as seal
from conftest import serving

from cloakwork import Client
from cloakwork.tensor import decode as read_tensor
from cloakwork_privacy.anonymize import Release
from cloakwork_privacy.ckks import encoder, layout
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.frames import Kind, decode
from cloakwork_privacy.ckks.sealed import Sealed
from cloakwork_privacy.ckks.secret import encrypt
from cloakwork_privacy.compiler.signature import Signature

MODELS = ["tumor-risk", "digits"]


def needles(record):
    """The forms in which the first two values could lie in memory, in a file or on the wire.

    Binary forms are of two neighbours: four bytes alone turn up in megabytes of keys by chance.
    """
    values = record.ravel()[:2].tolist()
    for form in ("<2f", ">2f", "<2d", ">2d"):
        yield struct.pack(form, *values)
    for value in values:
        yield f"{value:.5f}".encode()
        yield repr(value).encode()


class Heard:
    """What passed a wiretap: each connection's bytes to the service, and from it."""

    def __init__(self):
        self.up, self.down = [], []

    def __bytes__(self):
        return b"\n".join([*self.up, *self.down])

    def bodies(self, ending):
        """The bodies of requests whose address ends so; one that was sent again is there again."""
        for stream in map(bytes, self.up):
            while stream:
                head, _, stream = stream.partition(b"\r\n\r\n")  # noqa: PLW2901 - it is eaten
                length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
                size = int(length[1]) if length else 0
                body, stream = stream[:size], stream[size:]  # noqa: PLW2901
                if head.split()[1].endswith(ending):
                    yield body


@contextmanager
def wiretap(port):
    """Forward a port and keep every byte that passes, both ways."""
    heard = Heard()
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source, sink, kept):
        while data := source.recv(1 << 16):
            kept.extend(data)
            sink.sendall(data)
        sink.close()

    def accept():
        while True:
            try:
                inside, _ = listener.accept()
            except OSError:
                return
            outside = socket.create_connection(("127.0.0.1", port))
            for source, sink, streams in ((inside, outside, heard.up), (outside, inside, heard.down)):
                streams.append(bytearray())
                threading.Thread(target=quietly, args=(pump, source, sink, streams[-1]), daemon=True).start()

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
    for pid in [server.process.pid, *server.descendants()]:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = Path(f"/proc/{pid}/fd/{descriptor.name}")
            if target.is_file():
                yield target.read_bytes()


@pytest.fixture
def canary(held_out):
    """A record that a model takes, with two values that are nowhere else."""

    def of(model):
        record = held_out(model)[0][0].copy()
        record.ravel()[:2] = [13.31072, 11.40517]
        return record

    return of


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mode", ["plaintext", "anonymized", "encrypted"])
def test_only_plaintext_shows_the_record(fresh_home, tmp_path, canary, model, mode):
    record = canary(model)
    logs = tmp_path / "logs"
    logs.mkdir()
    with serving(fresh_home, logs / "gateway.log") as server, wiretap(server.port) as (port, heard):
        with Client(f"http://127.0.0.1:{port}", server.key) as client:
            answer = client.run(model, record, privacy=mode)
        assert server.workers()
        on_disk = b"".join(kept(server))
    on_wire = bytes(heard)
    stored = [server.key[:11].encode(), answer.request_id.encode()]
    if mode == "encrypted":
        keys = {body for body in heard.bodies(b"") if body[:4] == b"CWHE" and body[5] == Kind.EVALUATION_KEYS}
        stored += keys
        assert len(stored) == 3
    assert all(thing in on_disk for thing in stored), "the search must see what is stored"
    assert b"/run?privacy=" in on_wire, "the search must see the wire"
    found_on_wire = [needle for needle in needles(record) if needle in on_wire]
    found_on_disk = [needle for needle in needles(record) if needle in on_disk]
    assert found_on_disk == []
    assert bool(found_on_wire) == (mode == "plaintext")


def likeness(signature, part, packed):
    """How far the first polynomial of a ciphertext, taken for an encoded plaintext, is the packed record."""
    ring, level = context(signature.parameters), signature.parameters.levels
    degree = signature.parameters.poly_degree
    head = layout._words(ring.parms_id(level)) + struct.pack("<Qd", degree * level, signature.scale)
    kind = layout.Layout((head + layout._array_head(ring, level), *layout.residues(ring, level)))
    plain = kind.unpack(part[: kind.wire_bytes], seal.Plaintext(), ring, "ciphertext_invalid")
    read = encoder.decode(ring, signature.packing, plain)
    expected = np.zeros(len(read))
    expected[: len(packed)] = packed
    return abs(np.corrcoef(read, expected)[0, 1])


def sealed_without_key(signature, packed):
    """A record sealed under the secret key zero, which hides nothing but is a ciphertext in form."""
    ring, level = context(signature.parameters), signature.parameters.levels
    kind = layout.secret_key(ring)
    zero = kind.unpack(bytes(kind.wire_bytes), seal.SecretKey(), ring, "key_file_damaged")
    plain = encoder.encode(ring, signature.packing, packed, signature.scale, level)
    return encrypt(Sealed(ring, signature.scale), plain, seal.Decryptor(ring.seal, zero))


@pytest.mark.parametrize("model", MODELS)
def test_a_request_without_its_key_is_no_record(server, trained, canary, model):
    record = canary(model)
    signature = Signature.from_json((trained(model)[1] / "encrypted/latency/signature.json").read_bytes())
    (packed,) = signature.prepare(record[None])
    with wiretap(server.port) as (port, heard), Client(f"http://127.0.0.1:{port}", server.key) as client:
        for _ in range(2):
            client.run(model, record, privacy="encrypted")
    requests = [
        decode(body, Kind.REQUEST, most_parts=1, most_bytes=1 << 20)
        for body in set(heard.bodies(b"/run?privacy=encrypted"))
    ]
    assert {frame.program.hex() for frame in requests} == {signature.digest}
    (first,), (second,) = (frame.parts for frame in requests)
    assert first[:16] != second[:16]
    # Chance gives 1 / sqrt(slots), 0.02 here.
    assert max(likeness(signature, part, packed) for part in (first, second)) < 0.2
    assert likeness(signature, sealed_without_key(signature, packed), packed) > 0.99


@pytest.mark.parametrize("model", MODELS)
def test_a_release_is_a_noisy_pick_and_not_the_projection(server, trained, canary, model):
    record, draws = canary(model), 256
    release = Release.from_json((trained(model)[1] / "anonymized" / "release.json").read_bytes())
    exact = (record.ravel().astype(np.float64) - release.center) @ release.projection.T.astype(np.float64)
    with wiretap(server.port) as (port, heard), Client(f"http://127.0.0.1:{port}", server.key) as client:
        for _ in range(2):
            client.run(model, np.repeat(record[None], draws, axis=0), privacy="anonymized")
    sent = [read_tensor(body) for body in set(heard.bodies(b"/run?privacy=anonymized"))]
    assert [rows.shape for rows in sent] == [(draws, *release.wire_shape)] * 2
    words = {word.tobytes(): index for index, word in enumerate(release.codebook)}
    first, second = ([words.get(row.tobytes()) for row in rows] for rows in sent)
    assert None not in [*first, *second], "only points of the codebook may leave"
    for rows in sent:
        assert np.abs(rows - exact).max(axis=1).min() > 1e-3, "the projection itself may not leave"
    assert first != second, "every call draws anew"
    near = set(release.near(record[None])[0].tolist())
    # Each draw is far with a probability of at least 0.05: none in 512 happens once in 1e11 runs.
    assert near & {*first, *second}
    assert {*first, *second} - near, "without answers that are not near there is no noise"
