"""The catalogue of prices, on both databases."""

import asyncio
from decimal import Decimal

import pytest

from cloakwork.errors import InputError, PaymentError
from cloakwork.price import UNITS, Price
from cloakwork.receipts import MOST
from cloakwork.wire import Mode
from cloakwork_functions.ledger.prices import MOST_USD, Catalogue

FREE = {"record": Decimal(0)}


@pytest.fixture
def catalogue(run, store):
    return run(Catalogue.open(store))


def refused(run, catalogue, rates, model="digits"):
    with pytest.raises(InputError) as failure:
        run(catalogue.set(model, Mode.PLAINTEXT, rates))
    assert failure.value.code == "bad_price"
    return failure.value.message


def test_versions_count_up_and_the_last_one_holds(run, catalogue):
    assert run(catalogue.set("digits", Mode.PLAINTEXT, {"record": Decimal("0.000002")})) == 1
    assert run(catalogue.set("digits", Mode.ENCRYPTED, {"call": Decimal("0.01")})) == 2
    assert run(catalogue.set("digits", Mode.PLAINTEXT, {"record": Decimal("0.000003")})) == 3
    assert catalogue.price("digits", Mode.PLAINTEXT, None) == Price(3, {"record": 3_000_000})
    assert [entry.price.version for entry in catalogue.current()] == [2, 3]
    assert [entry.price.version for entry in run(catalogue.history("digits"))] == [1, 2, 3]
    assert run(catalogue.history("wine")) == []


def test_all_rates_of_a_price_are_replaced_together(run, catalogue):
    units = [unit for unit in UNITS if unit != "token"]
    run(catalogue.set("digits", Mode.ENCRYPTED, {unit: Decimal("1e-12") for unit in units}))
    assert catalogue.price("digits", Mode.ENCRYPTED, None).rates == dict.fromkeys(units, 1)
    run(catalogue.set("digits", Mode.ENCRYPTED, FREE))
    assert catalogue.price("digits", Mode.ENCRYPTED, 7).rates == {"record": 0}


def test_the_card_holds_where_the_catalogue_has_nothing_and_nothing_at_all_is_refused(run, catalogue):
    assert catalogue.price("digits", Mode.PLAINTEXT, 2000) == Price(0, {"record": 2_000_000})
    assert catalogue.find("digits", Mode.PLAINTEXT, None) is None
    with pytest.raises(PaymentError) as failure:
        catalogue.price("digits", Mode.PLAINTEXT, None)
    assert (failure.value.code, failure.value.status) == ("no_price", 503)
    run(catalogue.set("digits", Mode.PLAINTEXT, FREE))
    assert catalogue.price("digits", Mode.PLAINTEXT, 2000).version == 1
    assert catalogue.find("digits", Mode.ANONYMIZED, None) is None


@pytest.mark.parametrize(
    "usd",
    ["0.0000000000001", "1.0000000000001", "-0.000001", "NaN", "sNaN", "Infinity", "9001", "1e-999999"],
)
def test_a_rate_that_is_no_whole_number_of_pico_usd_within_bounds_is_refused(run, catalogue, usd):
    refused(run, catalogue, {"record": Decimal(usd)})
    assert catalogue.current() == []


def test_digits_beyond_a_decimals_precision_are_not_rounded_away(run, catalogue):
    refused(run, catalogue, {"record": Decimal("1." + "0" * 40 + "1")})


@pytest.mark.parametrize(
    "usd", ["0", "0.000000000001", "1e-12", "0.10", "9000", "0.000000000010000000000000000000"]
)
def test_a_rate_of_whole_pico_usd_is_kept_to_the_last_digit(run, catalogue, usd):
    run(catalogue.set("digits", Mode.PLAINTEXT, {"record": Decimal(usd)}))
    assert catalogue.price("digits", Mode.PLAINTEXT, None).rates == {"record": Decimal(usd) * 10**12}


def test_what_is_no_price_is_refused(run, catalogue):
    assert "no unit hour" in refused(run, catalogue, {"hour": Decimal(1)})
    assert "at least" in refused(run, catalogue, {})
    assert "@" in refused(run, catalogue, FREE, model="digits@3")


@pytest.mark.parametrize("unit", ["token", "ciphertext"])
def test_a_rate_for_what_no_call_of_the_mode_counts_is_refused(run, catalogue, unit):
    assert unit in refused(run, catalogue, {"call": Decimal(1), unit: Decimal(1)})
    assert catalogue.current() == []


def test_a_receipt_can_state_every_rate(run, catalogue):
    run(catalogue.set("digits", Mode.PLAINTEXT, {"record": Decimal(MOST_USD)}))
    assert catalogue.price("digits", Mode.PLAINTEXT, None).rates["record"] <= MOST


def test_another_gateway_learns_of_a_price_when_it_refreshes(run, gateway):
    ours, theirs = (run(Catalogue.open(gateway())) for _ in range(2))
    run(ours.set("digits", Mode.PLAINTEXT, FREE))
    assert theirs.find("digits", Mode.PLAINTEXT, None) is None
    run(theirs.refresh())
    assert theirs.price("digits", Mode.PLAINTEXT, None).version == 1
    assert run(Catalogue.open(gateway())).current() == ours.current()


def test_gateways_that_set_prices_at_once_lose_none(run, gateway):
    catalogues = [run(Catalogue.open(gateway())) for _ in range(3)]

    async def race():
        return await asyncio.gather(
            *(each.set(f"m{number}", Mode.PLAINTEXT, FREE) for number in range(8) for each in catalogues)
        )

    assert sorted(run(race())) == list(range(1, 25))
    histories = [run(catalogues[0].history(f"m{number}")) for number in range(8)]
    assert sorted(entry.price.version for each in histories for entry in each) == list(range(1, 25))
