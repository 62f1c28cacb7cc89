"""Every layout against the bytes SEAL itself writes and reads."""

import numpy as np
import pytest
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import blob, layout
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.public import key_layouts
from cloakwork_privacy.errors import PrivacyError


@pytest.fixture(scope="module")
def wide(deep):
    return context(deep.signature.parameters)


def test_keys_are_packed_whole(wide, deep, deep_keys):
    """The server's body of every key is the one SEAL wrote, residue by residue."""
    generator = seal.KeyGenerator(wide.seal, deep_keys._secret)
    for kind, made in zip(
        key_layouts(wide, deep.signature)[1:],
        (
            generator.create_relin_keys(),
            generator.create_galois_keys([wide.galois_element(step) for step in deep.signature.rotations]),
        ),
        strict=True,
    ):
        assert kind._body(kind.pack(made)) == blob.dump(made, kind.body_bytes)


@pytest.mark.parametrize("seeded", [True, False])
def test_ciphertexts_arrive(ring, keys, seeded):
    kind = layout.ciphertext(ring, 1, 1024.0, seeded=seeded)
    plain = seal.Plaintext()
    ring.encoder.encode([3.0], ring.parms_id(1), 1024.0, plain)
    if seeded:
        made = keys._encryptor.encrypt_symmetric(plain)
    else:
        made = seal.Ciphertext()
        keys._encryptor.encrypt_symmetric(plain, made)
    wire = kind.pack(made)
    assert len(wire) == kind.wire_bytes == 2048 * 7 * (1 if seeded else 2) + 64 * seeded
    read, decrypted = kind.unpack(wire, seal.Ciphertext(), ring, "ciphertext_invalid"), seal.Plaintext()
    assert (read.size(), read.scale, read.is_ntt_form()) == (2, 1024.0, True)
    keys._decryptor.decrypt(read, decrypted)
    assert ring.encoder.decode_double(decrypted)[0] == pytest.approx(3.0, abs=1.0)


def test_the_wire_carries_neither_scale_nor_level(ring, keys):
    """Another scale of SEAL's is a foreign layout on the way out; on the way in there is no such field."""
    plain = seal.Plaintext()
    ring.encoder.encode([3.0], ring.parms_id(1), 2048.0, plain)
    with pytest.raises(RuntimeError, match="unknown layout"):
        layout.ciphertext(ring, 1, 1024.0, seeded=True).pack(keys._encryptor.encrypt_symmetric(plain))


def test_residues_not_below_their_prime_are_refused(ring):
    kind = layout.ciphertext(ring, 1, 1024.0, seeded=True)
    with pytest.raises(PrivacyError, match="residues") as caught:
        kind.unpack(b"\xff" * kind.wire_bytes, seal.Ciphertext(), ring, "ciphertext_invalid")
    assert caught.value.code == "ciphertext_invalid"


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
