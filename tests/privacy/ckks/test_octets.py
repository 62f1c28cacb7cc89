import numpy as np
import pytest

from cloakwork_privacy.ckks.octets import narrow, widen


@pytest.mark.parametrize("width", range(3, 9))
@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_bytes_survive(width, dropped):
    words = np.random.default_rng(0).integers(0, 1 << (8 * width - 1), 100, np.uint64)
    data = narrow(words, width, dropped)
    expected = b"".join(int(word).to_bytes(8, "little")[dropped:width] for word in words)
    assert data == expected
    kept = words >> np.uint64(8 * dropped) << np.uint64(8 * dropped)
    for tail in (b"", b"x", b"\xff" * 20):
        assert (widen(b"ab" + data + tail, 2, 100, width, dropped) == kept).all()
