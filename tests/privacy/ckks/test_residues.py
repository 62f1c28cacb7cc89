"""Residues through SEAL's memory and through its streams are the same."""

import multiprocessing
import threading
from pathlib import Path

import numpy as np
import pytest
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import layout, residues
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.parameters import Parameters
from cloakwork_privacy.errors import PrivacyError

MEMORY = Path("/proc/self/mem")
RING = context(Parameters(4096, (30, 25, 35)))


@pytest.fixture(params=[True, False])
def direct(request, monkeypatch):
    """With and without access to SEAL's memory."""
    if request.param and not MEMORY.exists():
        pytest.skip("no /proc/self/mem here")
    assert residues._direct() or not MEMORY.exists()
    monkeypatch.setattr(residues, "_direct", lambda: request.param)


def words(level=2, polynomials=2):
    random = np.random.default_rng(7)
    drawn = [random.integers(0, prime, (polynomials, 4096), np.uint64) for prime in RING.primes[:level]]
    return np.stack(drawn, axis=1)


@pytest.mark.parametrize("polynomials", [2, 3])
@pytest.mark.parametrize("level", [1, 2])
def test_what_is_made_is_read(direct, level, polynomials):
    known = words(level, polynomials)
    item = residues.make(RING, known, 2.0**20)
    assert (item.size(), item.scale, item.is_ntt_form()) == (polynomials, 2.0**20, True)
    assert item.parms_id() == RING.parms_id(level)
    assert (residues.read(item) == known).all()


def test_what_is_filled_is_read(direct):
    known = words()
    item = residues.fill(RING, residues.blank(RING, 2), known, 3.0)
    assert (item.scale, item.is_ntt_form()) == (3.0, False)
    assert (residues.read(item) == known).all()
    again = residues.fill(RING, residues.make(RING, known, 1.0), known[::-1], 3.0)
    assert again.is_ntt_form()
    assert (residues.read(again) == known[::-1]).all()


def test_what_is_read_is_a_copy(direct):
    known = words()
    item = residues.make(RING, known, 1.0)
    residues.read(item)[:] = 0
    assert (residues.read(item) == known).all()


def test_too_large_residues_are_not_made():
    known = words()
    known[1, 1, 5] = RING.primes[1]
    with pytest.raises((ValueError, RuntimeError)):
        residues.make(RING, known, 1.0)


@pytest.fixture(scope="module")
def sealed():
    """A seeded ciphertext as it travels, its layout, and SEAL's reading of it."""
    generator = seal.KeyGenerator(RING.seal)
    plain = seal.Plaintext()
    RING.encoder.encode([1.5], RING.parms_id(2), 2.0**20, plain)
    kind = layout.ciphertext(RING, 2, 2.0**20, seeded=True)
    wire = kind.pack(seal.Encryptor(RING.seal, generator.secret_key()).encrypt_symmetric(plain))
    return wire, kind, residues.read(kind.unpack(wire, seal.Ciphertext(), RING, "ciphertext_invalid"))


def unpacked(sealed, item=None):
    wire, kind, _ = sealed
    return residues.unpack(RING, kind, wire, "ciphertext_invalid", item)


def test_seeded_ciphertexts_arrive(direct, sealed):
    for _ in range(2):
        item = unpacked(sealed)
        assert (item.size(), item.scale, item.is_ntt_form()) == (2, 2.0**20, True)
        assert (residues.read(item) == sealed[2]).all()
    assert (residues.read(unpacked(sealed, item)) == sealed[2]).all()


def test_seeded_ciphertexts_are_judged(direct, sealed):
    wire, kind, _ = sealed
    for bad in (
        wire[:-1],
        wire + b"\0",
        b"",
        b"\xff" * len(wire),
        wire[: 4 * 4096] + b"\xff" * 4 + wire[4 * 4096 + 4 :],
    ):
        with pytest.raises(PrivacyError) as caught:
            residues.unpack(RING, kind, bad, "ciphertext_invalid")
        assert caught.value.code == "ciphertext_invalid"


def test_threads_do_not_share_a_stencil(sealed):
    wire, kind, known = sealed
    other = wire[:-64] + bytes(64)
    expected = residues.read(residues.unpack(RING, kind, other, "ciphertext_invalid"))
    wrong = []

    def work(sent, right):
        items = (residues.unpack(RING, kind, sent, "ciphertext_invalid") for _ in range(50))
        wrong.extend(item for item in items if (residues.read(item) != right).any())

    threads = [threading.Thread(target=work, args=case) for case in ((wire, known), (other, expected)) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forks_do_not_share_a_stencil(sealed):
    unpacked(sealed)
    (_, mine), *_ = residues._local.stencils.items()
    near, far = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_forked, args=(sealed, far))
    child.start()
    assert near.recv()
    child.join()
    assert residues._local.stencils
    assert mine in residues._local.stencils.values()


def _forked(sealed, pipe):
    inherited = set(map(id, residues._local.stencils.values()))
    right = bool((residues.read(unpacked(sealed)) == sealed[2]).all())
    kept = [stencil for stencil in residues._local.stencils.values() if id(stencil) in inherited]
    pipe.send(right and not kept)
