from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloakwork.errors import InputError
from cloakwork.price import UNITS, Price, round_half_even

AMOUNTS = st.integers(0, 2**70)
RATES = st.dictionaries(st.sampled_from(sorted(UNITS)), st.integers(0, 2**40))
QUANTITIES = st.dictionaries(st.sampled_from(sorted(UNITS)), st.integers(0, 2**40))


def nano(pico):
    """What decimal makes of it."""
    with localcontext(prec=60):
        return int((Decimal(pico) / 1000).quantize(Decimal(1), ROUND_HALF_EVEN))


@given(st.one_of(AMOUNTS, AMOUNTS.map(lambda whole: whole * 1000 + 500)))
@example(500)
@example(1500)
def test_rounding_is_half_even(pico):
    rounded = round_half_even(pico)
    assert rounded == nano(pico)
    assert type(rounded) is int


@given(RATES, QUANTITIES)
def test_a_line_for_every_rate_rounded_once_and_the_amount_is_their_sum(rates, quantities):
    price = Price(1, rates)
    lines = price.lines(quantities)
    assert {line.unit: line.rate for line in lines} == rates
    assert [line.unit for line in lines] == [unit for unit in UNITS if unit in rates]
    assert all(line.quantity == quantities.get(line.unit, 0) for line in lines)
    assert all(line.amount == nano(line.quantity * line.rate) for line in lines)
    assert price.amount(quantities) == sum(
        nano(quantities.get(unit, 0) * rate) for unit, rate in rates.items()
    )


@pytest.mark.parametrize("rates", [{"minute": 1}, {"record": -1}, {"record": 0.5}, {"record": True}])
def test_a_rate_that_would_be_passed_over_or_is_no_amount_is_refused(rates):
    with pytest.raises(InputError) as refused:
        Price(1, rates)
    assert (refused.value.code, refused.value.param) == ("bad_request", "rates")
