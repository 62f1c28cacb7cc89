"""Every way a request can be wrong: its own code and status, nothing charged, and the server goes on."""

import hashlib
import json
import shutil
import socket
import sqlite3
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from conftest import cli, serving

from cloakwork import tensor
from cloakwork.errors import CODES, CloakworkError
from cloakwork.wire import Media, Mode
from cloakwork_functions.home import Home
from cloakwork_functions.registry import Registry
from cloakwork_privacy.ckks import frames
from cloakwork_privacy.ckks.secret import SecretKeys
from cloakwork_privacy.compiler.signature import Signature

GOOD = [1.0] * 30
NOWHERE = "0" * 64
ENDLESS = b"CWT1\x01\x08\0\0" + b"\0" * 4 + b"\xff" * 28


def as_json(value):
    return {"json": {"input": value}}


def as_tensor(array):
    return {"content": tensor.encode(array), "headers": {"content-type": Media.TENSOR}}


def as_frame(body):
    return {"content": body, "headers": {"content-type": Media.FRAME}}


def raw(text):
    return {"content": text, "headers": {"content-type": Media.JSON}}


PLAIN = [
    ("wrong_shape", as_json([1.0] * 29)),
    ("wrong_shape", as_json([[1.0] * 30, [1.0]])),
    ("wrong_shape", as_json(1.0)),
    ("wrong_shape", as_tensor(np.zeros((2, 2, 30)))),
    ("wrong_dtype", as_json(["a"] * 30)),
    ("wrong_dtype", as_json([None] * 30)),
    ("wrong_dtype", as_json([True] * 30)),
    ("wrong_shape", as_json({"mean radius": 1.0})),
    ("not_finite", raw(json.dumps({"input": [float("nan")] * 30}))),
    ("not_finite", raw(json.dumps({"input": [float("inf")] * 30}))),
    ("not_finite", as_tensor(np.full(30, np.nan))),
    ("not_finite", as_tensor(np.full(30, np.inf, np.float32))),
    ("not_finite", as_json([1e300] * 30)),
    ("out_of_range", as_json([-1.0] * 30)),
    ("too_many_records", as_json([GOOD] * 4097)),
    ("too_many_records", as_tensor(np.zeros((0, 30)))),
    ("bad_json", raw("{")),
    ("bad_json", raw(b"\xff\xfe")),
    ("bad_json", raw("[" * 100_000)),
    ("bad_json", raw('{"inputs": [1]}')),
    ("bad_tensor", {"content": b"CWT1", "headers": {"content-type": Media.TENSOR}}),
    ("bad_tensor", {"content": tensor.encode(np.zeros(30))[:-1], "headers": {"content-type": Media.TENSOR}}),
    ("unsupported_media_type", {"content": b"a,b", "headers": {"content-type": "text/csv"}}),
    ("unsupported_media_type", {"content": b""}),
    ("wrong_dtype", as_json(["x" * 4000, *[""] * 29])),
    ("wrong_shape", as_json([["x" * 4000], *[""] * 20_000])),
    ("not_finite", as_json([10**400] * 30)),
    ("bad_tensor", {"content": ENDLESS, "headers": {"content-type": Media.TENSOR}}),
    ("bad_request", {"json": {"input": GOOD}, "headers": {"idempotency-key": "k" * 256}}),
    ("bad_request", {"json": {"input": GOOD}, "headers": {"cloakwork-timeout-seconds": "nan"}}),
    ("bad_request", {"json": {"input": GOOD}, "headers": {"cloakwork-timeout-seconds": "soon"}}),
    ("body_too_large", {"content": b" " * ((16 << 20) + 1), "headers": {"content-type": Media.JSON}}),
]


@pytest.fixture(scope="module")
def signatures(trained):
    return {
        name: Signature.from_json((trained(name)[1] / "encrypted/latency/signature.json").read_bytes())
        for name in ("tumor-risk", "digits")
    }


@pytest.fixture(scope="module")
def keys(signatures):
    return {name: SecretKeys.generate(signature) for name, signature in signatures.items()}


@pytest.fixture
def unchanged(server):
    """Whatever the test does, no run is settled or left open, and the server answers as before."""
    before = runs(server.home)
    yield
    after = runs(server.home)
    assert after["settle"] == before["settle"]
    assert after["hold"] - before["hold"] == after["release"] - before["release"]
    assert server.run(**as_json(GOOD)).status_code == 200
    assert server.process.poll() is None


def runs(home):
    connection = sqlite3.connect(home.database)
    try:
        counted = dict(connection.execute("SELECT kind, count(*) FROM entries GROUP BY kind"))
    finally:
        connection.close()
    return {kind: counted.get(kind, 0) for kind in ("hold", "settle", "release")}


def assert_refused(answer, code):
    body = answer.json()
    assert body["error"]["code"] == code, body
    assert answer.status_code == body["status"] == CODES[code].status
    assert answer.headers["content-type"] == Media.PROBLEM
    assert answer.headers["x-request-id"] in body["instance"]
    assert body["error"]["message"][-1] in ".?"
    assert len(body["error"]["message"]) > 20


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("code", "request_"), PLAIN, ids=[f"{n}-{code}" for n, (code, _) in enumerate(PLAIN)]
)
def test_plain_bodies(server, code, request_):
    assert_refused(server.run(**request_), code)


@pytest.mark.usefixtures("unchanged")
def test_a_body_that_grows_past_the_limit_is_cut_off(server):
    def drip():
        for _ in range(18):
            yield b" " * (1 << 20)

    assert_refused(server.run(content=drip(), headers={"content-type": Media.JSON}), "body_too_large")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("code", "path"),
    [
        ("unknown_model", "/v1/models/nothing/run"),
        ("unknown_model", "/v1/models/digits@9/run"),
        ("unknown_model", "/v1/models/digits@nowhere/run"),
        ("unknown_model", "/v1/models/digits@01/run"),
        ("unknown_model", "/v1/models/digits@" + "0" * 5000 + "1/run"),
        ("unknown_path", "/v1/models/..%2f..%2fkeys/run"),
        ("bad_request", "/v1/models/digits/run?privacy=secret"),
        ("unknown_path", "/v1/nothing"),
    ],
)
def test_references(server, code, path):
    assert_refused(server.post(path, **as_json(GOOD)), code)


def test_a_mode_that_the_card_does_not_offer(fresh_home, trained, tmp_path):
    card, folder = trained("tumor-risk")
    shutil.copytree(folder, tmp_path / "plain-only")
    only = replace(card, name="plain-only", modes={"plaintext": card.modes["plaintext"]})
    (tmp_path / "plain-only" / "card.json").write_bytes(msgspec.json.encode(only))
    (fresh_home.root / "registry").unlink()
    Registry(fresh_home.registry).publish(tmp_path / "plain-only")
    with serving(fresh_home, tmp_path / "log") as running:
        assert_refused(running.run("plain-only", "encrypted", **as_frame(b"")), "mode_not_offered")
        assert_refused(running.run("plain-only", "anonymized", **as_json([1.0])), "mode_not_offered")
        with running.client() as client, pytest.raises(CloakworkError) as refused:
            client.run("plain-only", GOOD, privacy="encrypted")
        assert refused.value.code == "mode_not_offered"


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("code", "authorization"),
    [("missing_key", None), ("missing_key", "Basic x"), ("wrong_key", "Bearer cw_aaaaaaaa_" + "b" * 32)],
)
def test_keys(server, code, authorization):
    headers = {"authorization": authorization} if authorization else {}
    answer = httpx.post(server.address + "/v1/models/digits/run", headers=headers, json={"input": GOOD})
    assert_refused(answer, code)
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.usefixtures("unchanged")
def test_a_revoked_key(server):
    key = cli(server.home, "keys", "create")
    good = {"headers": {"authorization": f"Bearer {key}"}, "json": {"input": [1.0] * 29}}
    assert_refused(server.run(**good), "wrong_shape")
    cli(server.home, "keys", "revoke", key[:11])
    assert_refused(server.run(**good), "revoked_key")


def flipped(body):
    """Change one bit in the middle."""
    changed = bytearray(body)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


def rewritten(frame, kind, **changes):
    """Change a frame and make its checksum right again, as a hostile client would."""
    decoded = frames.decode(frame, kind, most_parts=64, most_bytes=len(frame))
    return frames.encode(replace(decoded, **{k: change(decoded) for k, change in changes.items()}))


def request(change):
    """A case: a good request frame of tumor-risk, changed."""
    return lambda keys, held_out: change(keys["tumor-risk"].seal(held_out("tumor-risk")[0][:1]))


def other_key(frame):
    return rewritten(frame, frames.Kind.REQUEST, keys=lambda _: bytes(32))


FRAMES = {
    "empty": ("frame_invalid", request(lambda frame: b"")),
    "no frame": ("frame_invalid", request(lambda frame: b"x" * 500)),
    "truncated": ("frame_invalid", request(lambda frame: frame[:-100])),
    "one bit off": ("frame_invalid", request(flipped)),
    "unknown keys": ("evaluation_keys_missing", request(other_key)),
    "no ciphertext": (
        "too_many_records",
        request(lambda frame: rewritten(frame, frames.Kind.REQUEST, parts=lambda _: (), records=lambda _: 0)),
    ),
    "too many ciphertexts": (
        "too_many_records",
        request(
            lambda frame: rewritten(
                frame, frames.Kind.REQUEST, parts=lambda f: f.parts * 65, records=lambda _: 65
            )
        ),
    ),
    "more ciphertexts than records": (
        "ciphertext_invalid",
        request(lambda frame: rewritten(frame, frames.Kind.REQUEST, parts=lambda f: f.parts * 2)),
    ),
    "more records than ciphertexts": (
        "ciphertext_invalid",
        request(lambda frame: rewritten(frame, frames.Kind.REQUEST, records=lambda _: 2)),
    ),
    "ciphertext cut": (
        "ciphertext_invalid",
        request(lambda frame: rewritten(frame, frames.Kind.REQUEST, parts=lambda f: (f.parts[0][:-9],))),
    ),
    "ciphertext of all ones": (
        "ciphertext_invalid",
        request(
            lambda frame: rewritten(frame, frames.Kind.REQUEST, parts=lambda f: (b"\xff" * len(f.parts[0]),))
        ),
    ),
    "another model's": (
        "wrong_program",
        lambda keys, held_out: keys["digits"].seal(held_out("digits")[0][:1]),
    ),
}


@pytest.fixture(scope="module")
def uploaded(server, keys):
    for model in keys:
        assert upload(server, model, keys[model].evaluation_keys()).status_code == 200


@pytest.mark.usefixtures("uploaded", "unchanged")
@pytest.mark.parametrize("name", FRAMES)
def test_ciphertexts(server, keys, held_out, name):
    code, make = FRAMES[name]
    assert_refused(server.run("tumor-risk", "encrypted", **as_frame(make(keys, held_out))), code)


@pytest.mark.usefixtures("unchanged")
def test_a_plain_record_in_encrypted_mode_is_refused_unread(server):
    assert_refused(server.run("tumor-risk", "encrypted", **as_json(GOOD)), "unsupported_media_type")


def secret_key_file(keys):
    """What `SecretKeys.save` writes: a frame that must never leave."""
    with tempfile.TemporaryDirectory() as scratch:
        keys.save(Path(scratch) / "keys")
        return (Path(scratch) / "keys" / "secret.key").read_bytes()


def secret_for_public(keys):
    """The secret key as the encryption library writes it, where the public one belongs."""
    with tempfile.NamedTemporaryFile() as scratch:
        keys._secret.save(scratch.name)
        secret = Path(scratch.name).read_bytes()
    evaluation = keys.evaluation_keys()
    return rewritten(evaluation, frames.Kind.EVALUATION_KEYS, parts=lambda f: (secret, *f.parts[1:]))


KEYS = {
    "truncated": ("frame_invalid", lambda keys: keys["digits"].evaluation_keys()[:-1]),
    "another program's": ("keys_for_another_program", lambda keys: keys["tumor-risk"].evaluation_keys()),
    "secret key file": ("secret_key_refused", lambda keys: secret_key_file(keys["digits"])),
    "secret as public": ("secret_key_refused", lambda keys: secret_for_public(keys["digits"])),
    "a request": ("frame_invalid", lambda keys: keys["digits"].seal(np.ones((1, 8, 8)))),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", KEYS)
def test_evaluation_keys(server, keys, name):
    code, make = KEYS[name]
    stored = sorted(server.home.evaluation_keys.rglob("*"))
    assert_refused(upload(server, "digits", make(keys)), code)
    assert sorted(server.home.evaluation_keys.rglob("*")) == stored


@pytest.mark.usefixtures("unchanged")
def test_evaluation_keys_under_another_name(server, keys):
    frame = keys["digits"].evaluation_keys()
    assert_refused(upload(server, "digits", frame, NOWHERE), "evaluation_keys_invalid")
    assert_refused(upload(server, "digits", frame, "..%2f..%2fcloakwork.db"), "unknown_path")


def upload(server, model, frame, fingerprint=None):
    fingerprint = fingerprint or hashlib.sha256(frame).hexdigest()
    path = f"/v1/models/{model}/evaluation-keys/{fingerprint}"
    return httpx.put(server.address + path, headers=server.headers, content=frame, timeout=60)


def test_headers_without_end_are_cut_off(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as endless:
        answer = b""
        with suppress(OSError):
            endless.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: ")
            for _ in range(64):
                endless.sendall(b"a" * 65536)
        with suppress(OSError):
            answer = endless.recv(100)
    assert answer.startswith(b"HTTP/1.1 431") or not answer
    assert httpx.get(server.address + "/healthz").status_code == 200


SDK = [
    ("wrong_shape", [1.0] * 29),
    ("wrong_shape", [[1.0], [1.0, 2.0]]),
    ("wrong_dtype", ["a"] * 30),
    ("not_finite", [float("nan")] * 30),
    ("not_finite", np.full(30, np.inf)),
    ("out_of_range", [-1.0] * 30),
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("mode", "code", "value"),
    # In anonymized mode the last is clipped: a refusal would be a bit about the record that no noise hides.
    [(mode, *case) for mode in Mode for case in (SDK[:-1] if mode is Mode.ANONYMIZED else SDK)],
)
def test_the_sdk_refuses_alike_in_every_mode(client, mode, code, value):
    with pytest.raises(CloakworkError) as refused:
        client.run("tumor-risk", value, privacy=mode)
    assert refused.value.code == code


def test_a_tampered_artifact_is_not_served(trained, tmp_path):
    home = Home(tmp_path / "home")
    home.make()
    info = Registry(home.registry).publish(trained("tumor-risk")[1])
    with serving(home, tmp_path / "log") as running:
        assert running.run(**as_json(GOOD)).status_code == 200
    graph = home.registry / "artifacts" / info.digest / "plaintext" / "model.onnx"
    graph.write_bytes(flipped(graph.read_bytes()))
    with serving(home, tmp_path / "log") as running:
        before = runs(home)
        assert_refused(running.run(**as_json(GOOD)), "model_unavailable")
        assert runs(home) == before
