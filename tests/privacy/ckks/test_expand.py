"""The expansion of seeds: pinned vectors, and what its definition promises."""

import hashlib
import struct

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.expand import SEED_BYTES, expand
from cloakwork_privacy.ckks.parameters import Parameters

SEED = bytes(range(32))
BELOW_54, SMALL, BELOW_60 = 0x3FFFFFFFFED001, 0xD0001, 0xFFFFFFFFFFC0001

seeds = st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES)
places = st.integers(0, 15)
# Of any shape: just above a power of two, half of the words are left out.
primes = st.integers(2**19 + 1, 2**60) | st.sampled_from([2**19 + 1, 2**59 + 1, 2**60 - 1, 2**54])


def expanded(seed, place, prime, count):
    into = np.full(count, 2**64 - 1, np.uint64)
    expand(seed, place, prime, into)
    return into


def by_the_book(seed, place, prime, count):
    """Word by word, as the module's docstring has it."""
    block = struct.pack(">QQ", place, 0)
    stream = Cipher(algorithms.AES256(seed), modes.CTR(block)).encryptor()
    found = []
    while len(found) < count:
        (word,) = struct.unpack("<Q", stream.update(bytes(8)))
        word %= 1 << prime.bit_length()
        if word < prime:
            found.append(word)
    return found


@pytest.mark.parametrize(
    ("seed", "place", "prime", "first", "digest"),
    [
        (
            SEED,
            0,
            BELOW_54,
            [0x1F492AB60090F2, 0x372EDD6A9AF3A9, 0x1FB94AAE765DF0],
            "71d833955fedd6297fbd9581565013a50e9f090e2aa9a59b08f1705c3336f2f9",
        ),
        (
            SEED,
            1,
            BELOW_54,
            [0x2B689AEFD51D51, 0x3A4F6CC8919FA4, 0x2DEF92EF3CC540],
            "9b8c6710fe1c4b6f0d27da27c46810221dd3f5b2301b7fc6ac61c5d9180e712d",
        ),
        (
            SEED,
            0,
            SMALL,
            [0x90F2, 0xAF3A9, 0x65DF0],
            "8e32c00a70a492d1c6f84c2864436de82b7f13adde61052222a8606edac94e00",
        ),
        (
            SEED,
            2,
            BELOW_60,
            [0x81B947CBB476BB9, 0x6CC4F0D80FBDCE4, 0xBE7E94F454A1D1E],
            "d8f7ebc1f01380ac58a3debdd3c6b86d14f05bfaac8303d818263ae07c338aaf",
        ),
        (
            bytes(32),
            0,
            BELOW_60,
            [0x98940A278C095DC, 0x720849214A248AD, 0x93645C7FB8A0F53],
            "f188859f24427df959edb0179c4cd33d3f02f9d3342c76110902ba48133e66fa",
        ),
    ],
)
def test_pinned_vectors(seed, place, prime, first, digest):
    """Both ends must agree for as long as anybody seals: a changed vector is a new wire format."""
    words = expanded(seed, place, prime, 4096)
    assert words[:3].tolist() == first
    assert hashlib.sha256(words.astype("<u8").tobytes()).hexdigest() == digest


@settings(deadline=None)
@given(seeds, places, primes, st.integers(0, 300))
def test_it_is_what_it_is_said_to_be(seed, place, prime, count):
    words = expanded(seed, place, prime, count)
    assert words.tolist() == by_the_book(seed, place, prime, count)
    assert (words < prime).all()


@settings(deadline=None)
@given(seeds, places, primes, st.integers(1, 4096), st.integers(1, 4096))
def test_fewer_are_the_first_of_more(seed, place, prime, few, many):
    few, many = sorted((few, many))
    assert (expanded(seed, place, prime, many)[:few] == expanded(seed, place, prime, few)).all()


@settings(deadline=None)
@given(seeds, places, places, st.integers(0, 255))
def test_every_seed_and_place_has_its_own(seed, place, other, bit):
    words = expanded(seed, place, BELOW_60, 64)
    if other != place:
        assert (expanded(seed, other, BELOW_60, 64) != words).all()
    another = (int.from_bytes(seed) ^ 1 << bit).to_bytes(SEED_BYTES)
    assert (expanded(another, place, BELOW_60, 64) != words).all()


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_seeds_have_one_size(size):
    with pytest.raises(ValueError, match="key size"):
        expanded(bytes(size), 0, BELOW_54, 1)


@pytest.mark.parametrize(
    "parameters", [Parameters(2048, (54,)), Parameters(8192, (60, 20, 60)), Parameters(32768, (20, 40))]
)
def test_seals_primes_are_reached_to_their_ends(parameters):
    """Of uniform numbers the least and the largest of N are off the ends by more than 30 / N once in 1e13."""
    degree = parameters.poly_degree
    for place, prime in enumerate(context(parameters).primes):
        words = expanded(SEED, place, prime, degree)
        assert words.min() < 30 / degree * prime
        assert (1 - 30 / degree) * prime < words.max() < prime
