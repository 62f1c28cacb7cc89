from dataclasses import asdict
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakwork.wire import Card, Mode, ModelInfo, ModelList, Offer, Tensor, load, usd

TEXT = st.text(max_size=12)
TENSORS = st.builds(
    Tensor,
    shape=st.lists(st.integers(0, 99), max_size=3).map(tuple),
    dtype=TEXT,
    unit=TEXT,
    names=st.lists(TEXT, max_size=3).map(tuple),
    minimum=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
OFFERS = st.builds(
    Offer,
    st.integers(0, 2**53),
    st.floats(0, 1),
    TEXT,
    st.integers(1, 99),
    epsilon=st.none() | st.floats(0.1, 9),
)
CARDS = st.builds(
    Card,
    name=TEXT,
    task=TEXT,
    summary=TEXT,
    input=TENSORS,
    output=TENSORS,
    modes=st.dictionaries(st.sampled_from(Mode), OFFERS),
    metrics=st.dictionaries(TEXT, st.floats(0, 1)),
    training=st.dictionaries(TEXT, TEXT),
    training_data=TEXT,
    limits=TEXT,
    license=TEXT,
)


@given(CARDS)
def test_the_clients_reader_and_the_servers_writer_agree(card):
    listing = ModelList((ModelInfo("m", 1, "ab", ("prod",), card),))
    assert load(ModelList, msgspec.to_builtins(listing)) == listing


def test_members_of_a_newer_server_are_passed_over():
    value = asdict(Tensor((2,), "float32", "cm")) | {"added_later": 1}
    assert load(Tensor, value) == Tensor((2,), "float32", "cm")


def test_a_missing_member_is_named():
    with pytest.raises(KeyError, match="unit"):
        load(Tensor, {"shape": [2], "dtype": "float32"})


def test_amounts_are_exact():
    assert usd(1) == Decimal("0.000000001")
    assert usd(2_500_000_000) == Decimal("2.5")
