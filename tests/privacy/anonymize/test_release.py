from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cloakwork_privacy.anonymize import RandomizedResponse, Release
from cloakwork_privacy.errors import PrivacyError

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def releases(draw):
    shape = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
    width, depth = math.prod(shape), draw(st.integers(1, 4))
    size = draw(st.integers(2, 8))
    near, epsilon = draw(st.integers(1, size - 1)), draw(st.floats(0.01, 12))
    return Release(
        shape,
        draw(npst.arrays(np.float32, width, elements=FINITE)),
        draw(npst.arrays(np.float32, (depth, width), elements=FINITE)),
        draw(npst.arrays(np.float32, (size, depth), elements=FINITE)),
        RandomizedResponse.calibrate(epsilon, size=size, near=near),
        epsilon,
    )


@settings(deadline=None)
@given(releases())
def test_a_release_survives_json_to_the_bit(one):
    body = one.to_json()
    two = Release.from_json(body)
    assert two.to_json() == body
    for name in ("center", "projection", "codebook"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert (two.input_shape, two.response, two.epsilon) == (one.input_shape, one.response, one.epsilon)


@settings(deadline=None)
@given(releases(), st.data())
def test_whatever_the_record_and_the_arrays_epsilon_bounds_every_answer(one, data):
    records = data.draw(npst.arrays(np.float32, (4, *one.input_shape), elements=FINITE))
    law = one.law(records)
    assert law.sum(axis=1) == pytest.approx(1)
    # Two codewords may be equal; the sums of their probabilities keep the same bound.
    assert np.log(law.max(axis=0) / law.min(axis=0)).max() <= one.epsilon + 1e-9


def test_only_points_of_the_codebook_leave(release):
    answers = release.release(np.ones((200, 2, 3)))
    assert answers.shape == (200, *release.wire_shape)
    assert answers.dtype == np.float32
    assert {tuple(row) for row in answers} <= {tuple(row) for row in release.codebook}


def test_near_points_are_those_of_least_distance(release):
    records = np.random.default_rng(1).normal(size=(50, 2, 3))
    points = (records.reshape(50, 6) - release.center) @ release.projection.T
    distance = np.linalg.norm(points[:, None] - release.codebook, axis=2)
    expected = np.sort(np.argsort(distance, axis=1)[:, :3], axis=1)
    assert np.array_equal(np.sort(release.near(records), axis=1), expected)


def test_a_record_released_again_gives_other_answers(release):
    record = np.tile(np.ones((2, 3), np.float32), (64, 1, 1))
    # The likeliest answer has probability .25; 64 equal ones twice over would be a broken generator.
    assert not np.array_equal(release.release(record), release.release(record))
    assert len(np.unique(release.release(record), axis=0)) > 1


def test_no_records_give_no_answers(release):
    assert release.release(np.empty((0, 2, 3), np.float32)).shape == (0, 2)


@pytest.mark.parametrize(
    ("records", "code"),
    [
        (np.ones((2, 3)), "wrong_shape"),
        (np.ones((1, 3, 2)), "wrong_shape"),
        (np.ones((1, 2, 3, 1)), "wrong_shape"),
        (np.ones(()), "wrong_shape"),
        (np.ones((1, 2, 3), bool), "wrong_dtype"),
        (np.ones((1, 2, 3), complex), "wrong_dtype"),
        (np.full((1, 2, 3), "1"), "wrong_dtype"),
        (np.full((1, 2, 3), None), "wrong_dtype"),
        (np.full((1, 2, 3), np.nan), "not_finite"),
        (np.full((1, 2, 3), -np.inf), "not_finite"),
        (np.full((1, 2, 3), 1e39), "not_finite"),
    ],
)
def test_records_that_do_not_fit_are_refused(release, records, code):
    with pytest.raises(PrivacyError) as refusal:
        release.release(records)
    assert refusal.value.code == code


def hostile():
    """Changes to a sound document, each of which must be refused."""
    yield "states less ε than it gives", {"epsilon": 1.0}
    yield "states more ε than it gives", {"epsilon": 2.1}
    yield "weakens the noise", {"threshold": (1 << 53) - (1 << 20)}
    yield "has no noise", {"threshold": 1 << 53}
    yield "has no far answers", {"near": 12}
    yield "changes the odds by more near answers", {"near": 4}
    yield "is of another format", {"format": "cloakwork-release/2"}
    yield "is of another mechanism", {"mechanism": "none"}
    yield "has an unknown member", {"also": 1}
    yield "has a huge number", {"epsilon": 10**400}
    yield "has a boolean for a number", {"near": True}
    yield "has a fraction for a count", {"near": 1.5}
    yield "has a negative count", {"near": -1}
    yield "has a text for a number", {"epsilon": "2.0"}
    yield "has null for a number", {"epsilon": None}
    yield "has an empty input", {"input_shape": [0, 3]}
    yield "has a negative dimension", {"input_shape": [-2, -3]}
    yield "has a huge input", {"input_shape": [1 << 40, 1 << 40]}
    yield "has another shape than its projection", {"input_shape": [7]}
    yield "has no list for a shape", {"input_shape": 6}
    yield "has another wire shape", {"wire_shape": [3]}
    yield "has a ragged projection", {"projection": [[1.0] * 6, [1.0] * 5]}
    yield "has no projection", {"projection": [], "wire_shape": [0]}
    yield "has nested lists for numbers", {"center": [[1.0]] * 6}
    yield "has a codebook of another depth", {"codebook": [[1.0]] * 12}
    yield "has fewer codewords than the mechanism", {"codebook": [[1.0, 1.0]] * 11}
    yield "has too many codewords", {"codebook": [[1.0, 1.0]] * 4097}
    yield "has numbers beyond float32", {"center": [1e39] * 6}


@pytest.mark.parametrize("change", [pytest.param(c, id=name) for name, c in hostile()])
def test_a_hostile_document_is_refused(release, change):
    document = json.loads(release.to_json()) | change
    with pytest.raises(PrivacyError) as refusal:
        Release.from_json(json.dumps(document).encode())
    assert refusal.value.code == "release_invalid"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 100_000,
        b" " * ((16 << 20) + 1),
        b'{"epsilon": NaN}',
        b'{"epsilon": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "cut", "not text", "a list", "null", "deep", "large", "NaN", "long number"],
)
def test_what_is_no_document_is_refused(body):
    with pytest.raises(PrivacyError) as refusal:
        Release.from_json(body)
    assert refusal.value.code == "release_invalid"


@pytest.mark.parametrize("member", ["epsilon", "threshold", "codebook"])
def test_a_document_lacking_a_member_is_refused(release, member):
    document = json.loads(release.to_json())
    del document[member]
    with pytest.raises(PrivacyError, match="lacks"):
        Release.from_json(json.dumps(document).encode())


def test_nan_cannot_pass_for_an_epsilon(release):
    with pytest.raises(PrivacyError, match="ε"):
        dataclasses.replace(release, epsilon=math.nan)
    body = release.to_json().replace(b'"epsilon":2.0', b'"epsilon":NaN')
    with pytest.raises(PrivacyError, match="JSON"):
        Release.from_json(body)
