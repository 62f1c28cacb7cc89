"""Sealed ciphertexts: what the client makes is what SEAL would, and what the server takes is checked."""

import numpy as np
import pytest
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import blob, memory, residues
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.encoder import decode, encode
from cloakwork_privacy.ckks.expand import SEED_BYTES, expand
from cloakwork_privacy.ckks.parameters import Parameters
from cloakwork_privacy.ckks.sealed import Sealed
from cloakwork_privacy.ckks.secret import encrypt
from cloakwork_privacy.errors import PrivacyError

RING = context(Parameters(4096, (30, 25, 35)))
SCALE = 2.0**20
WIDTHS = (4, 4)


@pytest.fixture(params=[True, False])
def direct(request, monkeypatch):
    """With and without access to SEAL's memory."""
    allowed = memory.direct() and request.param
    monkeypatch.setattr(memory, "direct", lambda: allowed)


@pytest.fixture(scope="module")
def secret():
    return seal.KeyGenerator(RING.seal).secret_key()


@pytest.fixture(scope="module")
def decryptor(secret):
    return seal.Decryptor(RING.seal, secret)


@pytest.fixture(scope="module")
def kind():
    return Sealed(RING, SCALE)


def decrypted(decryptor, item):
    plain = seal.Plaintext()
    decryptor.decrypt(item, plain)
    return plain


def test_ciphertexts_arrive(direct, kind, decryptor):
    values = np.random.default_rng(4).normal(size=2048)
    wire = encrypt(kind, encode(RING, "slots", values, SCALE, 2), decryptor)
    assert len(wire) == kind.wire_bytes == 4096 * sum(WIDTHS) + SEED_BYTES
    item = kind.unpack(wire)
    assert (item.size(), item.scale, item.is_ntt_form()) == (2, SCALE, True)
    assert item.parms_id() == RING.parms_id(2)
    assert decode(RING, "slots", decrypted(decryptor, item)) == pytest.approx(values, abs=1e-3)


def test_the_second_polynomial_is_the_seeds(direct, kind, decryptor):
    wire = encrypt(kind, encode(RING, "slots", np.ones(3), SCALE, 2), decryptor)
    _, second = residues.read(kind.unpack(wire))
    for place in range(2):
        expected = np.empty(4096, np.uint64)
        expand(wire[-SEED_BYTES:], place, RING.primes[place], expected)
        assert (second[place] == expected).all()


def test_every_ciphertext_has_a_seed_of_its_own(kind, decryptor):
    plain = encode(RING, "slots", np.ones(3), SCALE, 2)
    wires = [encrypt(kind, plain, decryptor) for _ in range(50)]
    assert len({wire[-SEED_BYTES:] for wire in wires}) == len(wires)
    first, second = (residues.read(kind.unpack(wire))[0] for wire in wires[:2])
    assert (first == second).mean() < 1e-3


def test_the_noise_is_seals(direct, kind, secret, decryptor):
    """Deviation and range of each prime's are those of SEAL's own; a deviation of 80 000 strays by 0.25 %."""
    zero, encryptor = encode(RING, "slots", np.zeros(1), SCALE, 2), seal.Encryptor(RING.seal, secret)

    def theirs():
        item = seal.Ciphertext()
        encryptor.encrypt_symmetric(zero, item)
        return item

    def noise(item):
        plain = residues.read_plain(decrypted(decryptor, item), (2, 4096))
        pair = residues.make(RING, np.stack((plain, plain)), 1.0)
        RING.evaluator.transform_from_ntt_inplace(pair)
        words, primes = residues.read(pair)[0].astype(np.int64), np.array(RING.primes[:2])[:, None]
        small = np.where(words > primes // 2, words - primes, words)
        assert (small[0] == small[1]).all()
        return small[0]

    ours = np.concatenate([noise(kind.unpack(encrypt(kind, zero, decryptor))) for _ in range(20)])
    seals = np.concatenate([noise(theirs()) for _ in range(20)])
    assert np.abs(ours).max() <= 21
    assert ours.std() == pytest.approx(np.sqrt(10.5), rel=0.02)
    assert ours.std() == pytest.approx(seals.std(), rel=0.03)
    assert abs(ours.mean()) < 0.1
    assert len({row.tobytes() for row in ours.reshape(20, -1)}) == 20


def test_a_second_polynomial_may_be_zero_somewhere(kind, decryptor, monkeypatch):
    """Once in 2^25 residues; its negative is zero too, and not the prime."""

    def mostly_zero(_, __, into):
        into[:] = 0
        into[:, 0] = 1

    monkeypatch.setattr(Sealed, "second", mostly_zero)
    wire = encrypt(kind, encode(RING, "slots", np.ones(2048), SCALE, 2), decryptor)
    opened = decode(RING, "slots", decrypted(decryptor, kind.unpack(wire)))
    assert opened == pytest.approx(np.ones(2048), abs=1e-3)


def test_ciphertexts_are_judged(direct, kind, decryptor):
    wire = encrypt(kind, encode(RING, "slots", np.ones(3), SCALE, 2), decryptor)
    first, second = RING.primes[:2]
    places = 4 * 4096 - 4, 4 * 4096, 4 * 4096 + 4 * 4095

    def changed(place, word):
        return wire[:place] + word.to_bytes(4, "little") + wire[place + 4 :]

    for bad in (
        wire[:-1],
        wire + b"\0",
        b"",
        b"\xff" * len(wire),
        changed(0, first),
        changed(places[0], first),
        changed(places[1], second),
        changed(places[2], 2**32 - 1),
    ):
        with pytest.raises(PrivacyError) as caught:
            kind.unpack(bad)
        assert caught.value.code == "ciphertext_invalid"
    for good in (changed(0, first - 1), changed(places[1], second - 1), wire[:-1] + b"\0", bytes(len(wire))):
        assert kind.unpack(good).size() == 2


def test_a_secret_key_is_refused_by_name(kind, secret):
    with pytest.raises(PrivacyError) as caught:
        kind.unpack(blob._save(secret))
    assert caught.value.code == "secret_key_refused"
