"""Every layout against the bytes SEAL itself writes and reads."""

import numpy as np
import pytest
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import blob, layout
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.encoder import encode
from cloakwork_privacy.ckks.parameters import Parameters
from cloakwork_privacy.errors import PrivacyError


@pytest.fixture(scope="module")
def wide():
    return context(Parameters(8192, (60, 60, 60)))


def made_keys(ring, steps):
    generator = seal.KeyGenerator(ring.seal)
    return generator.create_relin_keys(), generator.create_galois_keys(
        [ring.galois_element(step) for step in steps]
    )


def test_keys_of_the_top_level_are_packed_whole(wide):
    """The server's body of every key is the one SEAL wrote, residue by residue."""
    layouts = layout.relinearisation_keys(wide, 2), layout.galois_keys(wide, ((1, 2), (256, 2)))
    for kind, made in zip(layouts, made_keys(wide, (1, 256)), strict=True):
        assert kind.body(kind.pack(made)).tobytes() == blob.dump(made, kind.body_bytes)


def test_keys_of_lower_levels_are_parts_of_whole_ones(wide):
    """What is not read is neither sent nor kept; the rest is SEAL's, to the byte."""
    prime, seed = 8192 * 8, 64
    kind = layout.galois_keys(wide, ((1, 1), (256, 2)))
    assert kind.wire_bytes == (2 * prime + seed) + 2 * (3 * prime + seed)
    _, made = made_keys(wide, (1, 256))
    whole = np.frombuffer(blob.dump(made, kind.body_bytes), np.uint8)
    cut = kind.body(kind.pack(made))
    differs = cut != whole
    assert not cut[differs].any()
    # Of the one cut key: of the first component a prime of three; of the second three, and the seed.
    assert differs.sum() == pytest.approx((1 + 3) * prime * 255 / 256 + seed, rel=0.01 + 255 / 256 / 8)


@pytest.fixture(scope="module")
def tall():
    """Three data primes, and keys cut to each level."""
    ring = context(Parameters(8192, (50, 50, 50, 60)))
    generator = seal.KeyGenerator(ring.seal)
    return ring, generator, generator.secret_key()


@pytest.mark.parametrize("level", [1, 2, 3])
def test_cut_keys_switch_at_their_level_and_below(tall, level):
    ring, generator, secret = tall
    galois_kind = layout.galois_keys(ring, ((5, level),))
    made = generator.create_galois_keys([ring.galois_element(5)])
    galois = galois_kind.unpack(galois_kind.pack(made), seal.GaloisKeys(), ring, "evaluation_keys_invalid")
    relinearise_kind = layout.relinearisation_keys(ring, level)
    wire = relinearise_kind.pack(generator.create_relin_keys())
    relinearisation = relinearise_kind.unpack(wire, seal.RelinKeys(), ring, "evaluation_keys_invalid")
    encryptor, decryptor = seal.Encryptor(ring.seal, secret), seal.Decryptor(ring.seal, secret)
    values = np.random.default_rng(6).normal(size=4096)

    def error(ciphertext, expected):
        plain = seal.Plaintext()
        decryptor.decrypt(ciphertext, plain)
        return np.abs(ring.encoder.decode_double(plain) - expected).max()

    for used in range(1, 4):
        fresh = seal.Ciphertext()
        encryptor.encrypt_symmetric(encode(ring, "slots", values, 2.0**22, used), fresh)
        turned, square = seal.Ciphertext(), seal.Ciphertext()
        ring.evaluator.rotate_vector(fresh, 5, galois, turned)
        ring.evaluator.square(fresh, square)
        ring.evaluator.relinearize_inplace(square, relinearisation)
        errors = error(turned, np.roll(values, -5)), error(square, values**2)
        assert (max(errors) < 0.1) if used <= level else (min(errors) > 10.0)


def test_the_wire_carries_neither_scale_nor_level(ring, keys):
    """Another scale of SEAL's is a foreign layout on the way out; on the way in there is no such field."""
    encryptor, plain = seal.Encryptor(ring.seal, keys._secret), seal.Plaintext()
    layout.public_key(ring).pack(encryptor.encrypt_zero_symmetric(ring.key_id))
    ring.encoder.encode([3.0], ring.key_id, 2048.0, plain)
    with pytest.raises(RuntimeError, match="unknown layout"):
        layout.public_key(ring).pack(encryptor.encrypt_symmetric(plain))


def test_residues_not_below_their_prime_are_refused(ring):
    kind = layout.public_key(ring)
    with pytest.raises(PrivacyError, match="residues") as caught:
        kind.unpack(b"\xff" * kind.wire_bytes, seal.PublicKey(), ring, "evaluation_keys_invalid")
    assert caught.value.code == "evaluation_keys_invalid"


@pytest.mark.parametrize("change", [-1, 1])
def test_another_size_is_refused(ring, change):
    kind = layout.public_key(ring)
    with pytest.raises(PrivacyError) as caught:
        kind.unpack(bytes(kind.wire_bytes + change), seal.PublicKey(), ring, "evaluation_keys_invalid")
    assert caught.value.code == "evaluation_keys_invalid"


def test_seals_own_secret_key_is_refused_by_name(ring, keys):
    with pytest.raises(PrivacyError) as caught:
        layout.public_key(ring).unpack(
            blob._save(keys._secret), seal.PublicKey(), ring, "evaluation_keys_invalid"
        )
    assert caught.value.code == "secret_key_refused"


def test_a_secret_key_survives(ring, keys):
    kind = layout.secret_key(ring)
    copy = kind.unpack(kind.pack(keys._secret), seal.SecretKey(), ring, "key_file_damaged")
    assert kind.pack(copy) == kind.pack(keys._secret)


def test_whole_bytes_are_sent(wide):
    assert [(words.count, words.width) for words in layout.residues(wide, 2)] == [(8192, 8), (8192, 8)]
    assert np.log2(wide.primes[0]) <= 60
