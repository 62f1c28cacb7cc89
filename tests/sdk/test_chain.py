"""Chains of receipts: whatever is done to one is found, and named."""

import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cloakwork.chain import Total, receipt_keys, receipts, verify_chain
from cloakwork.config import Config
from cloakwork.errors import ConfigError, ReceiptError
from cloakwork.exchange import Exchange
from cloakwork.jwks import jwks_of, thumbprint
from cloakwork.price import Price
from cloakwork.receipts import GENESIS, Receipt, compact, message
from cloakwork.wire import Response

LENGTH = 9
PRIVATE = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2)]
PUBLIC = [private.public_key().public_bytes_raw() for private in PRIVATE]
KEYS = {thumbprint(public): public for public in PUBLIC}
NAMES = list(KEYS)
PRICE = Price(1, {"record": 1_000_500})


def sign(receipt):
    return compact(receipt.canonical, PRIVATE[NAMES.index(receipt.key)].sign(message(receipt.canonical)))


def make(length, account="acct_1", mark="a"):
    """The receipts of an account whose service rotated its key half way."""
    made, previous = [], GENESIS
    for sequence in range(1, length + 1):
        quantities = {"call": 1, "record": sequence}
        receipt = Receipt(
            account=account,
            sequence=sequence,
            previous=previous,
            run=f"req_{mark}{sequence}",
            at=1_790_000_000 + sequence,
            model="digits@1",
            model_digest="a" * 64,
            mode=("plaintext", "encrypted")[sequence % 2],
            outcome="answered",
            request="b" * 64,
            answer="c" * 64,
            quantities=quantities,
            price=1,
            lines=PRICE.lines(quantities),
            amount=PRICE.amount(quantities),
            key=NAMES[sequence * 2 > length],
        )
        previous = receipt.hash
        made.append(receipt)
    return made


RECEIPTS = make(LENGTH)
CHAIN = [sign(receipt) for receipt in RECEIPTS]
PLACES = st.integers(0, LENGTH - 1)


def refused(texts, **options):
    with pytest.raises(ReceiptError) as failure:
        verify_chain(texts, KEYS, **options)
    assert failure.value.code == "receipt_invalid"
    return failure.value.message


def test_a_whole_chain_is_summed_up():
    summary = verify_chain(CHAIN, KEYS)
    assert (summary.first, summary.last) == (1, RECEIPTS[-1])
    assert summary.total == Total(LENGTH, sum(receipt.amount for receipt in RECEIPTS))
    assert summary.totals["digits@1", "plaintext"].receipts == LENGTH // 2
    assert sum(total.amount for total in summary.totals.values()) == summary.total.amount


@given(PLACES, st.data())
def test_an_altered_receipt_is_named(place, data):
    text = bytearray(CHAIN[place].encode())
    text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    texts = [*CHAIN[:place], text.decode("latin-1"), *CHAIN[place + 1 :]]
    with pytest.raises(ReceiptError) as failure:
        verify_chain(texts, KEYS)
    assert failure.value.message.startswith(f"Receipt {place + 1} of {LENGTH}: ")


@given(st.integers(0, LENGTH - 2))
def test_a_dropped_receipt_is_named(place):
    words = refused([*CHAIN[:place], *CHAIN[place + 1 :]])
    assert words.startswith(f"Receipt {place + 1} of {LENGTH - 1}: Dropped: number {place + 1} ")


def test_a_chain_cut_at_its_end_shows_in_its_last_receipt():
    assert verify_chain(CHAIN[:-1], KEYS).last == RECEIPTS[-2]


@given(PLACES, PLACES)
def test_a_duplicated_receipt_is_named(source, target):
    texts = [*CHAIN[:target], CHAIN[source], *CHAIN[target:]]
    words = refused(texts)
    if target > source:
        assert words.startswith(f"Receipt {target + 1} of {LENGTH + 1}: Duplicated: number {source + 1} ")
    elif target == source:
        assert words.startswith(f"Receipt {target + 2} of {LENGTH + 1}: Duplicated: number {source + 1} ")
    else:
        assert words.startswith(
            f"Receipt {target + 1} of {LENGTH + 1}: Reordered: it has number {source + 1} "
        )


@given(st.permutations(range(LENGTH)).filter(lambda order: order != list(range(LENGTH))))
def test_any_other_order_is_named(order):
    first = next(place for place, index in enumerate(order) if place != index)
    words = refused([CHAIN[index] for index in order])
    assert words.startswith(f"Receipt {first + 1} of {LENGTH}: Reordered: it has number {order[first] + 1} ")


def test_a_fork_is_found_where_it_begins_and_where_it_rejoins():
    other = [sign(receipt) for receipt in make(LENGTH, mark="b")]
    assert "Receipt 5 of 9: Forked: it follows another receipt 4 " in refused([*CHAIN[:4], *other[4:]])
    both = [*CHAIN[:4], other[3], *CHAIN[4:]]
    assert "Receipt 5 of 10: Forked: another receipt has number 4 too." in refused(both)


def test_another_accounts_receipt_is_found():
    foreign = sign(make(LENGTH, account="acct_2")[4])
    assert "Receipt 5 of 9: Of another account " in refused([*CHAIN[:4], foreign, *CHAIN[5:]])


def test_a_run_that_is_charged_twice_is_found():
    again = replace(RECEIPTS[1], run=RECEIPTS[0].run)
    assert "Receipt 2 of 2: Run req_a1 is charged a second time." in refused([CHAIN[0], sign(again)])


def test_an_unknown_key_is_named_with_its_place():
    with pytest.raises(ReceiptError) as failure:
        verify_chain(CHAIN, {NAMES[0]: PUBLIC[0]})
    assert failure.value.code == "receipt_key_unknown"
    assert failure.value.message.startswith("Receipt 5 of 9: ")


@given(st.integers(1, LENGTH - 1))
def test_a_chain_goes_on_from_a_trusted_receipt(place):
    start = RECEIPTS[place - 1]
    summary = verify_chain(CHAIN[place:], KEYS, start=start)
    assert (summary.first, summary.total.receipts) == (place + 1, LENGTH - place)
    assert f"Receipt 1 of {LENGTH - place}: Dropped: number 1 " in refused(CHAIN[place:])
    assert "Receipt 1 of 1: Reordered" in refused(CHAIN[place - 1 : place], start=start)
    other = make(LENGTH, mark="b")[place - 1]
    assert "Forked: it follows another" in refused(CHAIN[place:], start=other)


def test_no_receipts_prove_nothing():
    assert "no receipts" in refused([])


def drive(flow, *bodies):
    """Answer a flow's requests in turn; return their paths and what came out."""
    paths = []
    try:
        request = next(flow)
        for body in bodies:
            paths.append(request.path)
            request = flow.send(Response(200, {}, body))
    except StopIteration as end:
        return paths, end.value
    raise AssertionError(f"another request to {request.path}")


def page(*texts):
    return json.dumps({"receipts": texts}).encode()


@pytest.fixture
def exchange(tmp_path):
    return Exchange(Config("http://host", "cw_x", tmp_path))


def test_pages_are_fetched_until_one_is_empty(exchange):
    paths, fetched = drive(receipts(exchange, 2, 60.0), page(*CHAIN[2:5]), page(*CHAIN[5:]), page())
    assert fetched == tuple(CHAIN[2:])
    assert paths == [f"/v1/receipts?after={after}" for after in (2, 5, 9)]


def test_pages_that_do_not_get_on_are_refused(exchange):
    with pytest.raises(ConfigError) as failure:
        drive(receipts(exchange, 0, 60.0), page(*CHAIN[:3]), page(*CHAIN[:3]))
    assert failure.value.code == "foreign_answer"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<html>", "foreign_answer"),
        (b"{}", "foreign_answer"),
        (page("x"), "receipt_invalid"),
        (page(7), "receipt_invalid"),
    ],
)
def test_pages_that_are_none_are_refused(exchange, body, code):
    with pytest.raises((ConfigError, ReceiptError)) as failure:
        drive(receipts(exchange, 0, 60.0), body)
    assert failure.value.code == code


def test_keys_are_fetched_from_the_well_known_address(exchange):
    paths, keys = drive(receipt_keys(exchange, 60.0), json.dumps(jwks_of(PUBLIC)).encode())
    assert (paths, keys) == (["/.well-known/jwks.json"], KEYS)
    with pytest.raises(ConfigError):
        drive(receipt_keys(exchange, 60.0), b"<html>")
    with pytest.raises(ReceiptError):
        drive(receipt_keys(exchange, 60.0), b"{}")
