"""Signatures: one spelling, hostile ones refused, records checked before they are encrypted."""

import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakwork_privacy.compiler.linear import linear
from cloakwork_privacy.compiler.rules import MOST_KEY_BYTES
from cloakwork_privacy.compiler.signature import Signature
from cloakwork_privacy.errors import PrivacyError


@pytest.fixture(scope="module")
def shallow():
    return linear([0.5, -1.5], 0.25, [1.0, 2.0], [1.0, 0.5], limit=10.0, max_records=3).signature


@pytest.fixture(scope="module")
def deep(deep):
    return deep.signature


def spelled(signature, **changes):
    fields = json.loads(signature.to_json()) | changes
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def refusal(call, *arguments):
    with pytest.raises(PrivacyError) as caught:
        call(*arguments)
    return caught.value.code


def test_a_signature_survives(shallow, deep):
    for signature in (shallow, deep):
        data = signature.to_json()
        read = Signature.from_json(data)
        assert read == signature
        assert read.digest == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "parameters",
    [
        {"poly_degree": 2048, "modulus_bits": [60]},
        {"poly_degree": 8192, "modulus_bits": [60, 60, 60, 60]},
        {"poly_degree": 65536, "modulus_bits": [60, 60]},
        {"poly_degree": 8192, "modulus_bits": []},
        {"poly_degree": 8192, "modulus_bits": [60, 50, 55]},
    ],
)
def test_insecure_parameters_of_a_hostile_server_are_refused(deep, parameters):
    assert refusal(Signature.from_json, spelled(deep, parameters=parameters)) == "insecure_parameters"


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"poly_degree": 8192, "modulus_bits": [60.0, 60, 60]}},
        {"parameters": {"poly_degree": [8192], "modulus_bits": [60]}},
        {"parameters": 3},
        {"packing": "rows"},
        {"packing": "coefficients"},
        {"finish": "argmax"},
        {"finish": "binary"},
        {"input_shape": []},
        {"input_shape": [8, 9]},
        {"input_shape": [-8, -8]},
        {"input_shape": [0, 64]},
        {"input_shape": [1 << 20, 1 << 20]},
        {"input_shape": [8, 8, *[1] * 7]},
        {"output_shape": [2]},
        {"output_shape": [10, *[1] * 8]},
        {"output_shape": []},
        {"output_shape": "ten"},
        {"shift": [0.0]},
        {"gain": [1] * 64},
        {"gain": [math.inf] * 64},
        {"shift": [math.nan] * 64},
        {"limit": 0.0},
        {"limit": -1.0},
        {"limit": 1e300},
        {"limit": math.nan},
        {"gather": []},
        {"gather": [64]},
        {"gather": [-2]},
        {"gather": [0] * 4097},
        {"gather": [True]},
        {"scale": 0.0},
        {"scale": math.inf},
        {"scale": -1.0},
        {"scale": 0.5},
        {"answer_scale": 2.0**60},
        {"answer_scale": math.nan},
        {"period": None},
        {"period": 1},
        {"period": 24},
        {"period": 8192},
        {"period": True},
        {"take": []},
        {"take": [16]},
        {"take": [0] * 10},
        {"take": [-1]},
        {"rotations": [0]},
        {"rotations": [4096]},
        {"rotations": [1, 1]},
        {"rotation_levels": []},
        {"rotation_levels": [2] * 7},
        {"rotation_levels": [0] * 6},
        {"rotation_levels": [3] * 6},
        {"rotation_levels": [True] * 6},
        {"relinearise_level": -1},
        {"relinearise_level": 3},
        {"relinearise_level": True},
        {"answer_limit": 0.0},
        {"answer_limit": -1.0},
        {"answer_limit": 1},
        {"answer_limit": math.inf},
        {"answer_limit": math.nan},
        {"answer_limit": 2.0**60},
        {"finish": "none", "output_shape": [9]},
        {"finish": "none", "output_shape": [5, 3]},
        {"max_records": 0},
        {"max_records": 1 << 20},
        {"max_records": True},
        {"circuit": "AB"},
        {"circuit": None},
        {"unknown": 1},
    ],
)
def test_contradictions_of_a_hostile_server_are_refused(deep, change):
    assert refusal(Signature.from_json, spelled(deep, **change)) == "program_invalid"


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"poly_degree": 10**60, "modulus_bits": [60]}},
        {"max_records": 10**10},
        {"gather": [10**4000]},
    ],
)
def test_long_integers_are_not_even_read(deep, change):
    assert refusal(Signature.from_json, spelled(deep, **change)) == "program_invalid"


def test_long_shapes_are_not_multiplied(deep, monkeypatch):
    """A million dimensions fit a signature, and their product takes minutes."""

    def prod(factors):
        assert len(factors) <= 8
        assert max(factors) <= 16384
        return multiply(factors)

    multiply = math.prod
    monkeypatch.setattr(math, "prod", prod)
    for shape in ([99] * 9, [99999] * 4, [99] * 1_000_000):
        for name in ("input_shape", "output_shape"):
            assert refusal(Signature.from_json, spelled(deep, **{name: shape})) == "program_invalid"


@pytest.mark.parametrize(
    ("degree", "bits", "level", "primes"), [(8192, 3, 2, 6), (8192, 3, 1, 2), (16384, 7, 6, 42)]
)
def test_a_signature_asks_for_63_mebibytes_of_keys_at_most(deep, degree, bits, level, primes):
    """Half a kilobyte could make a client work for minutes and fill its memory and its disk."""
    parameters = {"poly_degree": degree, "modulus_bits": [60] * bits}
    # The deep program's relinearisation key, of six primes, is asked for too.
    most = (MOST_KEY_BYTES // (8 * degree) - 6) // primes

    def asking(count):
        asked = {"rotations": list(range(1, count + 1)), "rotation_levels": [level] * count}
        return spelled(deep, parameters=parameters, **asked)

    assert len(Signature.from_json(asking(most)).rotations) == most
    for count in (most + 1, degree // 2 - 1):
        with pytest.raises(PrivacyError, match="keys too large") as caught:
            Signature.from_json(asking(count))
        assert caught.value.code == "program_invalid"


def test_small_parts_of_many_keys_are_refused_for_the_work_of_making_them(deep):
    """A key of level one is two residues of fifty-six, but is made whole."""
    parameters = {"poly_degree": 16384, "modulus_bits": [60] * 7}
    asked = {"rotations": list(range(1, 200)), "rotation_levels": [1] * 199}
    with pytest.raises(PrivacyError, match="keys too large"):
        Signature.from_json(spelled(deep, parameters=parameters, **asked))


def test_rings_larger_than_any_program_needs_are_refused(deep):
    parameters = {"poly_degree": 32768, "modulus_bits": [60, 60, 60]}
    with pytest.raises(PrivacyError, match="degree"):
        Signature.from_json(spelled(deep, parameters=parameters))


def test_keys_that_cannot_exist_are_refused(shallow):
    assert refusal(Signature.from_json, spelled(shallow, relinearise_level=1)) == "program_invalid"


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000, b"1" * (5 << 20)])
def test_other_bytes_are_refused(data):
    assert refusal(Signature.from_json, data) == "program_invalid"


def test_there_is_one_spelling(shallow):
    assert refusal(Signature.from_json, shallow.to_json().replace(b",", b", ")) == "program_invalid"
    assert refusal(Signature.from_json, shallow.to_json() + b"\n") == "program_invalid"


@given(st.data())
def test_a_changed_byte_is_refused_or_changes_the_digest(shallow, data):
    changed = bytearray(shallow.to_json())
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] ^= data.draw(st.integers(1, 127))
    try:
        read = Signature.from_json(bytes(changed))
    except PrivacyError:
        return
    assert read.digest != shallow.digest


def test_records_are_standardised_and_packed(shallow):
    assert shallow.prepare([[3.0, 6.0], [1.0, 0.0]]).tolist() == [[2.0, 2.0], [0.0, -1.0]]
    assert shallow.prepare(np.array([[3, 6]], np.uint8)).dtype == np.float64


def test_windows_are_gathered(deep):
    image = np.arange(64.0).reshape(1, 8, 8) / 100
    ready = (image.ravel() - deep.shift) * deep.gain
    gather = np.array(deep.gather)
    packed = deep.prepare(image)[0]
    assert packed[gather >= 0].tolist() == ready[gather[gather >= 0]].tolist()
    assert not packed[gather < 0].any()
    # Every pixel is under the centre tap of some window, and the inner ones under all nine, in four copies.
    counts = np.bincount(gather[gather >= 0], minlength=64).reshape(8, 8)
    assert counts[1:-1, 1:-1].tolist() == [[4 * 9] * 6] * 6
    assert counts[0, 0] == 4 * 4


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ([["a", "b"]], "wrong_dtype"),
        ([[1j, 1.0]], "wrong_dtype"),
        ([[None, 1.0]], "wrong_dtype"),
        ([1.0, 2.0], "wrong_shape"),
        ([[1.0, 2.0, 3.0]], "wrong_shape"),
        (np.zeros((0, 2)), "wrong_shape"),
        (5.0, "wrong_shape"),
        ([[[1.0], [2.0]]], "wrong_shape"),
        ([[1.0, 2.0]] * 4, "too_many_records"),
        ([[math.nan, 1.0]], "not_finite"),
        ([[math.inf, 1.0]], "not_finite"),
        ([[11.5, 1.0]], "out_of_range"),
        ([[-1e300, 1.0]], "out_of_range"),
    ],
)
def test_records_that_do_not_fit_are_refused_without_being_quoted(shallow, records, code):
    with pytest.raises(PrivacyError) as caught:
        shallow.prepare(records)
    assert caught.value.code == code
    assert "11.5" not in str(caught.value)


def test_answers_are_finished(shallow, deep):
    assert shallow.finished(np.array([[0.0], [1.0], [1000.0], [-1000.0]])).tolist() == [
        [0.5, 0.5],
        [0.26894, 0.73106],
        [0.0, 1.0],
        [1.0, 0.0],
    ]
    bare = dataclasses.replace(deep, finish="none", output_shape=(2, 5))
    assert bare.finished(np.arange(20.0).reshape(2, 10) / 7).tolist() == (
        (np.arange(20.0) / 7).reshape(2, 2, 5).tolist()
    )
    logits = np.random.default_rng(0).normal(size=(3, 10)) * 1000
    finished = deep.finished(logits)
    assert finished.shape == (3, 10)
    assert finished.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-4)
    assert finished.argmax(axis=1).tolist() == logits.argmax(axis=1).tolist()
