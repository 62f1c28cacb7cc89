import pytest

from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.parameters import LARGEST_MODULUS_BITS, Parameters
from cloakwork_privacy.errors import PrivacyError


def test_the_table_is_the_standard():
    assert LARGEST_MODULUS_BITS == {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}


@pytest.mark.parametrize(
    ("degree", "bits"),
    [
        (2048, (55,)),
        (8192, (55, 55, 54, 55)),
        (2047, (54,)),
        (512, (20,)),
        (65536, (60, 60)),
        (8192, ()),
        (8192, (61,)),
        (8192, (-60, 60)),
        (8192, (60, 40, 50)),
    ],
)
def test_what_the_table_does_not_cover_is_refused(degree, bits):
    with pytest.raises(PrivacyError) as caught:
        Parameters(degree, bits)
    assert caught.value.code == "insecure_parameters"


@pytest.mark.parametrize("degree", [2048, 4096, 8192])
def test_seal_is_asked_too(degree):
    """Past our own table, SEAL refuses by itself."""
    forged = Parameters(degree, (27,))
    object.__setattr__(forged, "modulus_bits", (40,) * (LARGEST_MODULUS_BITS[degree] // 40 + 1))
    with pytest.raises(PrivacyError, match="SEAL") as caught:
        context(forged)
    assert caught.value.code == "insecure_parameters"


def test_bits_without_enough_primes_are_refused():
    with pytest.raises(PrivacyError, match="No such primes"):
        context(Parameters(8192, (20,) * 10))


def test_a_context_is_built_once():
    assert context(Parameters(2048, (54,))) is context(Parameters(2048, (54,)))


def test_the_special_prime_is_the_largest():
    ring = context(Parameters(8192, (60, 50, 60)))
    assert ring.primes[-1] == max(ring.primes)
    assert (ring.parameters.levels, ring.parameters.slots) == (2, 4096)
