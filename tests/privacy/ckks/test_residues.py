"""Residues through SEAL's memory and through its streams are the same."""

from pathlib import Path

import numpy as np
import pytest
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import memory, residues
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.parameters import Parameters

MEMORY = Path("/proc/self/mem")
RING = context(Parameters(4096, (30, 25, 35)))


@pytest.fixture(params=[True, False])
def direct(request, monkeypatch):
    """With and without access to SEAL's memory."""
    if request.param and not MEMORY.exists():
        pytest.skip("no /proc/self/mem here")
    assert memory.direct() or not MEMORY.exists()
    monkeypatch.setattr(memory, "direct", lambda: request.param)
    return request.param


def words(level=2, polynomials=2):
    random = np.random.default_rng(7)
    drawn = [random.integers(0, prime, (polynomials, 4096), np.uint64) for prime in RING.primes[:level]]
    return np.stack(drawn, axis=1)


@pytest.mark.parametrize("ntt", [True, False])
@pytest.mark.parametrize("polynomials", [2, 3, 8])
@pytest.mark.parametrize("level", [1, 2])
def test_what_is_made_is_read(direct, level, polynomials, ntt):
    known = words(level, polynomials)
    item = residues.make(RING, known, 2.0**20, ntt=ntt)
    assert (item.size(), item.scale, item.is_ntt_form()) == (polynomials, 2.0**20, ntt)
    assert item.parms_id() == RING.parms_id(level)
    assert (residues.read(item) == known).all()


def test_what_is_filled_is_read(direct):
    known = words()
    for ntt in (True, False):
        made = residues.make(RING, known, 1.0, ntt=ntt)
        item = residues.fill(RING, made, known[::-1], 3.0)
        assert (item.scale, item.is_ntt_form()) == (3.0, ntt)
        assert (residues.read(item) == known[::-1]).all()
        assert (item is made) == direct


def test_what_is_written_is_read(direct):
    """SEAL computes with it as with what it made itself."""
    known = words()

    def write(into):
        into[:] = known

    item, double = residues.written(RING, known.shape, 1.0, write), seal.Ciphertext()
    RING.evaluator.add(item, residues.make(RING, known, 1.0), double)
    primes = np.array(RING.primes[:2], np.uint64)[:, None]
    assert (residues.read(double) == 2 * known % primes).all()


def test_what_cannot_be_written_is_not_made(direct):
    def write(_):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        residues.written(RING, (2, 2, 4096), 1.0, write)


@pytest.mark.parametrize("level", [1, 2])
def test_plaintexts_too(direct, level):
    known = words(level)[0]
    item = residues.plain(RING, known, 8.0)
    assert (item.scale, item.is_ntt_form()) == (8.0, True)
    assert item.parms_id() == RING.parms_id(level)
    assert (residues.read_plain(item, known.shape) == known).all()


def test_what_is_read_is_a_copy(direct):
    known = words()
    item, plain = residues.make(RING, known, 1.0), residues.plain(RING, known[0], 1.0)
    residues.read(item)[:] = 0
    residues.read_plain(plain, known[0].shape)[:] = 0
    assert (residues.read(item) == known).all()
    assert (residues.read_plain(plain, known[0].shape) == known[0]).all()


def test_a_view_is_seals_own_memory_where_that_is_possible(direct):
    known = words()
    item = residues.make(RING, known, 1.0)
    view = residues.view(item)
    assert (view == known).all()
    view[:] = 0
    assert item.is_transparent() == direct


def test_small_integers(direct):
    values = np.array([[-21, -1, 0], [1, 2, 21]])
    made = residues.centred(RING, 2, values)
    assert made.shape == (2, 2, 3)
    for place, prime in enumerate(RING.primes[:2]):
        assert (made[:, place] == values % prime).all()


def test_too_large_residues_are_not_loaded(monkeypatch):
    monkeypatch.setattr(memory, "direct", lambda: False)
    known = words()
    known[1, 1, 5] = RING.primes[1]
    with pytest.raises((ValueError, RuntimeError)):
        residues.make(RING, known, 1.0)


@pytest.mark.skipif(not MEMORY.exists(), reason="no /proc/self/mem here")
class TestMemory:
    def test_another_size_than_expected_is_noticed(self):
        item, plain = residues.make(RING, words(), 1.0), residues.plain(RING, words()[0], 1.0)
        for shape in ((3, 2, 4096), (2, 1, 4096), (2, 2, 2048), (2, 4096, 2)):
            with pytest.raises(RuntimeError, match="laid out"):
                memory.ciphertext(item, shape)
        for shape in ((1, 4096), (2, 2048)):
            with pytest.raises(RuntimeError, match="laid out"):
                memory.plaintext(plain, shape)

    @pytest.mark.parametrize("kind", ["_Ciphertext", "_Plaintext"])
    @pytest.mark.parametrize("field", ["parms_id", "scale", "count", "words"])
    def test_another_layout_fails_the_trial(self, monkeypatch, kind, field):
        """Fields one word off, as another SEAL may have them: no access, and no crash."""
        fields = list(getattr(memory, kind)._fields_)
        fields.insert([name for name, _ in fields].index(field), ("new", memory.ctypes.c_uint64))
        moved = type(kind, (memory.ctypes.Structure,), {"_fields_": tuple(fields)})
        monkeypatch.setattr(memory, kind, moved)
        assert memory.direct.__wrapped__() is False
