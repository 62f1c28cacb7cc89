import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloakwork import tensor
from cloakwork.errors import InputError

DTYPES = st.sampled_from(["<f4", "<f8", "<i4", "<i8", "u1", "<f2"])
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)))


@given(ARRAYS)
def test_round_trip_is_exact(array):
    back = tensor.decode(tensor.encode(array))
    assert back.shape == array.shape
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


def test_layout_is_the_documented_one():
    array = np.array([[1.0, 2.0]], dtype="<f4")
    assert tensor.encode(array) == b"CWT1\x01\x02\x00\x00" + b"\x01\0\0\0\x02\0\0\0" + array.tobytes()


def test_strided_and_big_endian_arrays_travel_by_value():
    array = np.arange(12, dtype=">f8").reshape(3, 4)[:, ::2]
    assert np.array_equal(tensor.decode(tensor.encode(array)), array)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([True]), np.array([1j]), np.array([None])])
def test_only_plain_numbers_are_sent(array):
    with pytest.raises(InputError) as refused:
        tensor.encode(array)
    assert refused.value.code == "wrong_dtype"


@given(st.binary(max_size=64))
def test_noise_is_refused_and_never_crashes(body):
    with pytest.raises(InputError) as refused:
        tensor.decode(body)
    assert refused.value.code == "bad_tensor"


@given(ARRAYS.filter(lambda array: array.size > 0), st.data())
def test_truncation_is_refused(array, data):
    body = tensor.encode(array)
    with pytest.raises(InputError):
        tensor.decode(body[: data.draw(st.integers(0, len(body) - 1))])


def test_dimensions_that_promise_more_than_there_is_cost_nothing():
    with pytest.raises(InputError):
        tensor.decode(b"CWT1\x01\x02\x00\x00" + b"\xff" * 8)
