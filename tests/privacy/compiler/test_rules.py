"""Rules of signatures that pack features; `test_signature` has those of all."""

import dataclasses
import json

import numpy as np
import pytest

from cloakwork_privacy.compiler.signature import Signature
from cloakwork_privacy.errors import PrivacyError


@pytest.fixture(scope="module")
def bundled(throughput):
    return throughput.signature


def spelled(signature, **changes):
    fields = json.loads(signature.to_json()) | changes
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def test_a_signature_survives(bundled):
    assert Signature.from_json(bundled.to_json()) == bundled


@pytest.mark.parametrize(
    "change",
    [
        {"period": None},
        {"period": 2048},
        {"period": 8192},
        {"rotations": [1], "rotation_levels": [1]},
        {"max_records": 4097},
        {"max_records": 0},
        {"take": [4096]},
        {"take": [0, 0, 1]},
        {"gather": [6]},
        {"gather": []},
        {"gather": [0] * 4097},
        {"answer_limit": 1e300},
        {"packing": "coefficients"},
        {"relinearise_level": 4},
    ],
)
def test_contradictions_are_refused(bundled, change):
    with pytest.raises(PrivacyError) as caught:
        Signature.from_json(spelled(bundled, **change))
    assert caught.value.code == "program_invalid"


def test_a_request_takes_256_mebibytes_at_most(bundled):
    """8192 coefficients of three primes of eight bytes: 1365 ciphertexts."""
    assert len(Signature.from_json(spelled(bundled, gather=[0] * 1365)).gather) == 1365
    with pytest.raises(PrivacyError, match="request too large"):
        Signature.from_json(spelled(bundled, gather=[0] * 1366))


def test_records_may_have_more_numbers_than_are_sent_but_not_any_number(bundled):
    def shaped(*shape):
        numbers = int(np.prod(shape))
        return spelled(bundled, input_shape=list(shape), shift=[0.0] * numbers, gain=[1.0] * numbers)

    assert Signature.from_json(shaped(256, 256)).input_shape == (256, 256)
    with pytest.raises(PrivacyError, match="shapes"):
        Signature.from_json(shaped(257, 256))


def test_records_become_columns(bundled):
    packed = bundled.prepare(np.arange(12.0).reshape(2, 2, 3) / 12)
    assert packed.tolist() == (np.arange(12.0).reshape(2, 6).T / 12).tolist()


@pytest.mark.parametrize(
    ("records", "period"), [(1, 2), (2, 2), (3, 4), (64, 64), (65, 128), (4095, 4096), (4096, 4096)]
)
def test_counts_follow_from_the_records(bundled, shallow, records, period):
    assert bundled.repeats(records) == period
    assert (bundled.sealed(records), bundled.answered(records)) == (6, 3)
    assert bundled.kept(records).tolist() == list(range(0, 8192, 4096 // period))
    assert bundled.summed(records) == 2 * period
    other = dataclasses.replace(shallow.signature, max_records=4096)
    assert (other.sealed(records), other.answered(records), other.repeats(records)) == (
        records,
        records,
        None,
    )
    assert (other.kept(records).tolist(), other.summed(records)) == ([0], 1)
