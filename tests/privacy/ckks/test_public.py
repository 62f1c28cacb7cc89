import pytest

from cloakwork_privacy.ckks import blob
from cloakwork_privacy.ckks.frames import Frame, Kind, decode, encode
from cloakwork_privacy.ckks.layout import secret_key
from cloakwork_privacy.ckks.public import EvaluationKeys
from cloakwork_privacy.compiler.linear import linear
from cloakwork_privacy.errors import PrivacyError


def parts(keys):
    return decode(keys.evaluation_keys(), Kind.EVALUATION_KEYS, most_parts=3, most_bytes=1 << 24).parts


def frame(program, *sent):
    return encode(Frame(Kind.EVALUATION_KEYS, bytes.fromhex(program.signature.digest), bytes(32), sent))


def refusal(program, data):
    with pytest.raises(PrivacyError) as caught:
        EvaluationKeys.parse(program.signature, data)
    return caught.value.code


def test_only_what_the_program_needs_is_made(shallow, keys, deep, deep_keys):
    few = EvaluationKeys.parse(shallow.signature, keys.evaluation_keys())
    assert (few.galois, few.relinearisation) == (None, None)
    assert few.fingerprint == keys.fingerprint
    many = EvaluationKeys.parse(deep.signature, deep_keys.evaluation_keys())
    signature, primes = deep.signature, len(deep.signature.parameters.modulus_bits)
    assert many.galois.size() == len(signature.rotations) > 0
    assert many.relinearisation.size() == 1
    # A polynomial of all primes is public; each key has a component for each prime of its level, and every
    # component a polynomial of those primes and the special one.
    levels = [*signature.rotation_levels, signature.relinearise_level]
    assert min(levels) < max(levels)
    polynomials = [primes, *(level + 1 for level in levels for _ in range(level))]
    prime = signature.parameters.poly_degree * 8
    assert sum(map(len, parts(deep_keys))) == sum(count * prime + 64 for count in polynomials)


def test_a_secret_key_is_refused_by_name(shallow, keys, ring, tmp_path):
    raw = blob._save(keys._secret)
    assert refusal(shallow, frame(shallow, raw)) == "secret_key_refused"
    assert refusal(shallow, frame(shallow, *parts(keys), raw)) == "evaluation_keys_invalid"
    keys.save(tmp_path / "keys")
    assert refusal(shallow, (tmp_path / "keys" / "secret.key").read_bytes()) == "secret_key_refused"
    # Dressed as a public key it is only noise: the halves a key is made of cannot be told apart.
    assert len(secret_key(ring).pack(keys._secret)) != len(parts(keys)[0])


def test_a_secret_key_among_many_is_refused_by_name(deep, deep_keys):
    raw = blob._save(deep_keys._secret)
    public, relinearisation, galois = parts(deep_keys)
    assert refusal(deep, frame(deep, raw, relinearisation, galois)) == "secret_key_refused"
    assert refusal(deep, frame(deep, public, raw, galois)) == "secret_key_refused"
    assert refusal(deep, frame(deep, public, relinearisation, raw)) == "secret_key_refused"


def test_keys_for_another_program(shallow, keys, deep):
    other = linear([0.5, -1.5, 2.5], 0.25, [1.0, 2.0, 3.0], [1.0, 0.5, 0.25])
    assert refusal(other, keys.evaluation_keys()) == "keys_for_another_program"
    assert refusal(deep, keys.evaluation_keys()) == "keys_for_another_program"


def test_missing_extra_swapped_and_foreign_keys(deep, deep_keys, shallow, keys):
    public, relinearisation, galois = parts(deep_keys)
    assert refusal(deep, frame(deep, public, relinearisation)) == "evaluation_keys_invalid"
    assert refusal(deep, frame(deep)) == "evaluation_keys_invalid"
    assert refusal(deep, frame(deep, public, galois, relinearisation)) == "evaluation_keys_invalid"
    assert refusal(shallow, frame(shallow, public[: len(parts(keys)[0])])) == "evaluation_keys_invalid"
    assert refusal(shallow, frame(shallow, b"")) == "evaluation_keys_invalid"


def test_too_large_keys_are_refused_before_they_are_read(shallow):
    assert refusal(shallow, frame(shallow, bytes(1 << 20))) == "frame_invalid"
