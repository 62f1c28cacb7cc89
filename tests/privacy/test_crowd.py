"""Whole calls of packing "features": one ciphertext for each feature, a record in every slot."""

import dataclasses
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakwork_privacy.ckks import blob
from cloakwork_privacy.ckks.frames import Kind, decode, encode
from cloakwork_privacy.ckks.secret import SecretKeys
from cloakwork_privacy.compiler.circuit import Circuit, Operation
from cloakwork_privacy.compiler.program import Program, circuit_digest
from cloakwork_privacy.errors import PrivacyError
from cloakwork_privacy.evaluate import Evaluator


def refusal(server, request, public):
    with pytest.raises(PrivacyError) as caught:
        server.run(request, public)
    return caught.value.code


@pytest.fixture(scope="module")
def crowd(throughput, throughput_keys):
    """The program that packs features: its server, keys, and keys on the server."""
    server = Evaluator(throughput)
    return server, throughput_keys, server.parse_keys(throughput_keys.evaluation_keys())


def crowd_logits(program, records):
    first, bias, second, offset = (constant.vector for constant in program.circuit.constants.values())
    return (records.reshape(len(records), -1) @ first.T + bias) ** 2 @ second.T + offset


@pytest.mark.parametrize("count", [1, 7, 4096])
def test_a_crowd_of_records_in_slots_computes(throughput, crowd, count):
    server, keys, public = crowd
    records = np.random.default_rng(12).uniform(-1, 1, size=(count, 2, 3))
    request = keys.seal(records)
    frame = decode(request, Kind.REQUEST, most_parts=6, most_bytes=1 << 20, most_records=4096)
    assert (len(frame.parts), frame.records) == (6, count)
    answer = server.run(request, public)
    frame = decode(answer, Kind.ANSWER, most_parts=4, most_bytes=1 << 20, most_records=4096)
    assert (len(frame.parts), frame.records) == (4, count)
    assert keys.open(answer, request).shape == (count, 3)
    assert np.abs(keys.logits(answer, request) - crowd_logits(throughput, records)).max() < 5e-3


@pytest.mark.parametrize("claimed", [1, 100])
def test_who_claims_few_records_reads_few(throughput, crowd, claimed):
    """Of 4096 records in the slots only averages come back, and past the claimed ones not even those."""
    server, keys, public = crowd
    records = np.random.default_rng(13).uniform(-1, 1, size=(4096, 2, 3))
    request = keys.seal(records)
    frame = decode(request, Kind.REQUEST, most_parts=6, most_bytes=1 << 20, most_records=4096)
    underpaid = encode(dataclasses.replace(frame, records=claimed))
    period = {1: 2, 100: 128}[claimed]
    averages = crowd_logits(throughput, records).reshape(-1, period, 3).mean(axis=0)
    shown = []
    for _ in range(12):
        answer = decode(
            server.run(underpaid, public), Kind.ANSWER, most_parts=4, most_bytes=1 << 20, most_records=4096
        )
        # The client opens the whole period.
        whole = dataclasses.replace(answer, records=period)
        asked = encode(dataclasses.replace(frame, records=period))
        parts = (hashlib.sha256(asked).digest(), *answer.parts[1:])
        greedy = SecretKeys.__new__(SecretKeys)
        greedy.__dict__.update(keys.__dict__)
        greedy._signature = dataclasses.replace(throughput.signature, answer_limit=2.0**20)
        object.__setattr__(greedy._signature, "digest", throughput.signature.digest)
        shown.append(greedy.logits(encode(dataclasses.replace(whole, parts=parts)), asked))
    opened = np.array(shown)
    assert np.abs(opened[:, :claimed] - averages[:claimed]).max() < 5e-3
    # An eighth of the modulus, over the scale, is 2^7 here: for one slot of two; more where there are more.
    assert opened[:, claimed:].std(axis=0).min() > 10.0 * np.abs(averages).max()


def test_what_is_no_crowd(crowd):
    server, keys, public = crowd
    request = keys.seal(np.zeros((2, 2, 3)))
    frame = decode(request, Kind.REQUEST, most_parts=6, most_bytes=1 << 20)

    def code(**changes):
        return refusal(server, encode(dataclasses.replace(frame, **changes)), public)

    assert code(records=0) == "ciphertext_invalid"
    assert code(records=4097) == "too_many_records"
    assert code(parts=frame.parts[:5]) == "ciphertext_invalid"
    assert code(parts=()) == "ciphertext_invalid"
    assert code(parts=(*frame.parts, frame.parts[0])) == "frame_invalid"
    assert code(parts=(*frame.parts[:5], frame.parts[5][:-1])) == "ciphertext_invalid"
    assert code(parts=(*frame.parts[:5], b"\xff" * len(frame.parts[5]))) == "ciphertext_invalid"
    assert code(parts=(*frame.parts[:5], blob._save(keys._secret))) == "secret_key_refused"


def test_answers_to_a_crowd_are_checked(crowd):
    server, keys, public = crowd
    request = keys.seal(np.zeros((2, 2, 3)))
    frame = decode(server.run(request, public), Kind.ANSWER, most_parts=4, most_bytes=1 << 20)

    def code(**changes):
        with pytest.raises(PrivacyError) as caught:
            keys.open(encode(dataclasses.replace(frame, **changes)), request)
        return caught.value.code

    assert code(records=1) == "answer_invalid"
    assert code(records=0) == "answer_invalid"
    assert code(records=5000) == "too_many_records"
    assert code(parts=frame.parts[:-1]) == "answer_invalid"
    assert code(parts=(*frame.parts, frame.parts[1])) == "frame_invalid"
    assert code(parts=(*frame.parts[:3], frame.parts[3][1:])) == "answer_invalid"


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_forged_crowds_are_refused_or_answered(crowd, data):
    server, keys, public = crowd
    body = bytearray(keys.seal(np.zeros((3, 2, 3)))[:-32])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, 130) | st.integers(0, len(body) - 1))
        body[place] ^= data.draw(st.integers(1, 255))
    forged = bytes(body) + hashlib.sha256(body).digest()
    try:
        answer = server.run(forged, public)
        assert np.isfinite(keys.open(answer, forged)).all()
    except PrivacyError:
        return


def rebuilt(program, operations, **changes):
    circuit = Circuit(tuple(operations), program.circuit.constants)
    return Program(
        dataclasses.replace(program.signature, circuit=circuit_digest(circuit), **changes), circuit
    )


def test_crowd_circuits_that_do_not_work_out_are_refused(throughput):
    steps = throughput.circuit.operations
    rotated = (Operation("rotate", (0,), step=1), *steps[1:])
    for operations in (steps[:-1], rotated, (Operation("matrix", (0,), "c002"), *steps[1:])):
        with pytest.raises(PrivacyError) as caught:
            Evaluator(rebuilt(throughput, operations))
        assert caught.value.code == "program_invalid"
    with pytest.raises(PrivacyError, match="fewer outputs"):
        Evaluator(rebuilt(throughput, steps, take=(0, 1, 3)))
