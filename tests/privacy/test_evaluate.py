"""Whole calls: compile, make keys, seal, evaluate, open; and everything a server must refuse."""

import dataclasses
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakwork_privacy import evaluate
from cloakwork_privacy.ckks import blob
from cloakwork_privacy.ckks.frames import Frame, Kind, decode, encode
from cloakwork_privacy.ckks.secret import SecretKeys
from cloakwork_privacy.compiler.circuit import Circuit, Operation
from cloakwork_privacy.compiler.linear import linear
from cloakwork_privacy.compiler.program import Program, circuit_digest
from cloakwork_privacy.errors import PrivacyError
from cloakwork_privacy.evaluate import Evaluator

WEIGHT, SHIFT, GAIN = np.linspace(-2, 2, 30), np.linspace(5, 9, 30), np.linspace(0.5, 1.5, 30)
RECORDS = np.random.default_rng(2).normal(7, 1, size=(3, 30))


@pytest.fixture(scope="module")
def program():
    return linear(WEIGHT, 0.5, SHIFT, GAIN, max_records=4)


@pytest.fixture(scope="module")
def server(program):
    return Evaluator(program)


@pytest.fixture(scope="module")
def keys(program):
    return SecretKeys.generate(program.signature)


@pytest.fixture(scope="module")
def public(server, keys):
    return server.parse_keys(keys.evaluation_keys())


def parts(frame, kind=Kind.REQUEST):
    return decode(frame, kind, most_parts=64, most_bytes=1 << 24).parts


def refusal(server, request, public):
    with pytest.raises(PrivacyError) as caught:
        server.run(request, public)
    return caught.value.code


def test_a_linear_model_computes(server, public, keys):
    logits = ((RECORDS - SHIFT) * GAIN) @ WEIGHT + 0.5
    request = keys.seal(RECORDS)
    answer = server.run(request, public)
    assert keys.logits(answer, request)[:, 0] == pytest.approx(logits, abs=1e-3)
    opened = keys.open(answer, request)
    assert opened.shape == (3, 2)
    assert opened[:, 1] == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-3)


def test_the_largest_accepted_record_computes(server, public, keys):
    worst = SHIFT + np.sign(WEIGHT) * 31.9 / GAIN
    request = keys.seal([worst])
    assert keys.logits(server.run(request, public), request)[0, 0] == pytest.approx(
        31.9 * np.abs(WEIGHT).sum() + 0.5, abs=1e-2
    )


def test_constants_are_encoded_once(program, keys, monkeypatch):
    encoded = []
    encode_one = evaluate.encode
    monkeypatch.setattr(evaluate, "encode", lambda *given: (encoded.append(given), encode_one(*given))[1])
    server = Evaluator(program)
    assert len(encoded) == len(program.circuit.constants) == 2
    public = server.parse_keys(keys.evaluation_keys())
    server.run(keys.seal(RECORDS), public)
    server.run(keys.seal(RECORDS), public)
    assert len(encoded) == 2


def test_sizes(keys, server, public):
    request = keys.seal(RECORDS[:1])
    assert len(keys.evaluation_keys()) < 15_000
    assert len(request) < 15_000
    assert len(server.run(request, public)) < 12_000


def test_a_request_for_another_program(server, public, keys):
    other = linear(WEIGHT + 1, 0.5, SHIFT, GAIN)
    request = SecretKeys.generate(other.signature).seal(RECORDS)
    assert refusal(server, request, public) == "wrong_program"
    assert refusal(Evaluator(other), keys.seal(RECORDS), public) == "keys_for_another_program"


def test_a_request_under_other_keys(program, server, public):
    assert refusal(server, SecretKeys.generate(program.signature).seal(RECORDS), public) == "wrong_keys"


def test_answers_are_checked(program, server, public, keys):
    request = keys.seal(RECORDS)
    answer = server.run(request, public)
    frame = decode(answer, Kind.ANSWER, most_parts=5, most_bytes=1 << 20)
    named, *rows = frame.parts

    def code(**changes):
        with pytest.raises(PrivacyError) as caught:
            keys.open(encode(dataclasses.replace(frame, **changes)), request)
        return caught.value.code

    assert code(program=bytes(32)) == "wrong_program"
    assert code(keys=bytes(32)) == "wrong_keys"
    assert code(parts=()) == "answer_invalid"
    assert code(parts=frame.parts * 2) == "frame_invalid"
    assert code(records=5) == "too_many_records"
    assert code(records=2) == "answer_invalid"
    assert code(records=0) == "answer_invalid"
    assert code(parts=(named,)) == "answer_invalid"
    assert code(parts=(named, *rows[:-1])) == "answer_invalid"
    assert code(parts=(named, *rows, rows[0])) == "answer_invalid"
    assert code(parts=tuple(rows)) == "answer_invalid"
    assert code(parts=(named[:-1], *rows)) == "answer_invalid"
    assert code(parts=(named, rows[0][:-1], *rows[1:])) == "answer_invalid"
    assert code(parts=(named, b"\xff" * len(rows[0]), *rows[1:])) == "answer_invalid"
    assert code(kind=Kind.REQUEST) == "frame_invalid"
    assert code(kind=Kind.SECRET_KEY) == "secret_key_refused"
    with pytest.raises(PrivacyError):
        SecretKeys.generate(program.signature).open(answer, request)


def test_the_answer_to_an_earlier_request_is_refused(server, public, keys):
    earlier, request = keys.seal(RECORDS), keys.seal(RECORDS)
    answer = server.run(earlier, public)
    assert keys.open(answer, earlier).shape == (3, 2)
    with pytest.raises(PrivacyError, match="another request") as caught:
        keys.open(answer, request)
    assert caught.value.code == "answer_invalid"


def test_an_answer_of_another_size_than_its_request_is_refused_for_that(server, public, keys):
    request = keys.seal(RECORDS)
    frame = decode(server.run(request, public), Kind.ANSWER, most_parts=5, most_bytes=1 << 20)
    for rows in (frame.parts[:-1], (*frame.parts, frame.parts[-1])):
        with pytest.raises(PrivacyError, match="more or fewer"):
            keys.open(encode(dataclasses.replace(frame, parts=rows)), request)


def test_what_is_no_ciphertext(server, public, keys, program):
    (part, *_), signature = parts(keys.seal(RECORDS)), program.signature

    def request(*sent, records=None):
        program_, fingerprint = bytes.fromhex(signature.digest), bytes.fromhex(keys.fingerprint)
        count = len(sent) if records is None else records
        return encode(Frame(Kind.REQUEST, program_, fingerprint, sent, count))

    assert refusal(server, request(), public) == "ciphertext_invalid"
    assert refusal(server, request(part, records=0), public) == "ciphertext_invalid"
    assert refusal(server, request(part, records=2), public) == "ciphertext_invalid"
    assert refusal(server, request(part, part, records=1), public) == "ciphertext_invalid"
    assert refusal(server, request(part, records=5), public) == "too_many_records"
    assert refusal(server, request(part, records=2**32 - 1), public) == "too_many_records"
    assert refusal(server, request(*[part] * 5, records=4), public) == "frame_invalid"
    assert refusal(server, request(b""), public) == "ciphertext_invalid"
    assert refusal(server, request(part, part[:-1]), public) == "ciphertext_invalid"
    assert refusal(server, request(part + b"\0"), public) == "ciphertext_invalid"
    assert refusal(server, request(b"\xff" * len(part)), public) == "ciphertext_invalid"
    assert refusal(server, request(blob._save(keys._secret)), public) == "secret_key_refused"
    assert refusal(server, request(*[part] * 5), public) == "too_many_records"
    assert refusal(server, request(bytes(100_000)), public) == "frame_invalid"
    assert refusal(server, keys.evaluation_keys(), public) == "frame_invalid"


def test_a_secret_key_file_is_refused_everywhere(server, public, keys, tmp_path):
    keys.save(tmp_path / "keys")
    data = (tmp_path / "keys" / "secret.key").read_bytes()
    assert refusal(server, data, public) == "secret_key_refused"
    with pytest.raises(PrivacyError) as caught:
        server.parse_keys(data)
    assert caught.value.code == "secret_key_refused"


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_damaged_requests_are_refused(server, public, keys, data):
    request = bytearray(keys.seal(RECORDS[:1]))
    place = data.draw(st.integers(0, len(request) - 1))
    request[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PrivacyError):
        server.run(bytes(request), public)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_forged_requests_are_refused_or_answered(server, public, keys, data):
    """A forger who mends the checksum gets a refusal or noise under its own key, and nothing crashes."""
    body = bytearray(keys.seal(RECORDS[:1])[:-32])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    forged = bytes(body) + hashlib.sha256(body).digest()
    try:
        answer = server.run(forged, public)
    except PrivacyError:
        return
    try:
        assert np.isfinite(keys.open(answer, forged)).all()
    except PrivacyError as error:
        assert error.code == "answer_out_of_range"  # noqa: PT017 - most forgeries open to noise, not all


def test_an_answer_beyond_anything_honest_is_refused(program, server, public, keys):
    """The same program with a lower limit: what opens to more than it can have computed."""
    request = keys.seal(RECORDS)
    answer = server.run(request, public)
    highest = np.abs(keys.logits(answer, request)).max()
    for slack, refused in ((1.01, False), (0.99, True)):
        strict = dataclasses.replace(program.signature, answer_limit=float(highest) * slack)
        monitored = SecretKeys.__new__(SecretKeys)
        monitored.__dict__.update(keys.__dict__)
        monitored._signature = strict
        object.__setattr__(strict, "digest", program.signature.digest)
        if refused:
            with pytest.raises(PrivacyError, match="unlike those") as caught:
                monitored.open(answer, request)
            assert caught.value.code == "answer_out_of_range"
        else:
            assert monitored.open(answer, request).shape == (3, 2)


def rebuilt(program, operations, **changes):
    circuit = Circuit(tuple(operations), program.circuit.constants)
    return Program(
        dataclasses.replace(program.signature, circuit=circuit_digest(circuit), **changes), circuit
    )


MULTIPLY, ADD = Operation("multiply_plain", (0,), "weights"), Operation("add_plain", (1,), "bias")


@pytest.mark.parametrize(
    "operations",
    [
        [],
        [ADD],
        [MULTIPLY, Operation("multiply_plain", (1,), "weights")],
        [MULTIPLY, ADD, Operation("rescale", (2,))],
        [MULTIPLY, ADD, Operation("rotate", (2,), step=1)],
        [Operation("multiply_plain", (0,), "missing")],
        [Operation("add", (0,))],
    ],
)
def test_circuits_that_do_not_work_out_are_refused(program, operations):
    assert program.circuit.operations == (MULTIPLY, ADD)
    with pytest.raises(PrivacyError) as caught:
        Evaluator(rebuilt(program, operations))
    assert caught.value.code == "program_invalid"


def test_another_scale_than_announced_is_refused(program):
    with pytest.raises(PrivacyError, match="level or scale"):
        Evaluator(
            rebuilt(program, program.circuit.operations, answer_scale=program.signature.answer_scale * 2)
        )


def test_weights_that_round_to_zero_are_refused():
    with pytest.raises(PrivacyError, match="round to zero"):
        Evaluator(linear([1e-30], 1e9, [0.0], [1.0]))
