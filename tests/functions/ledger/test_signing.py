import asyncio

import pytest

from cloakwork.chain import verify_chain
from cloakwork.errors import ConfigError
from cloakwork.jwks import keys_of
from cloakwork.price import Price
from cloakwork.receipts import GENESIS, digest, recount, verify
from cloakwork.wire import Mode
from cloakwork_functions.ledger.books import Account
from cloakwork_functions.ledger.jobs import Charge, End, Outcome
from cloakwork_functions.ledger.secrets import Secrets
from cloakwork_functions.ledger.signing import SigningKeys
from cloakwork_functions.ledger.statement import Statement

SECRETS = Secrets(bytes(range(32)))
PRICE = Price(7, {"call": 1500, "record": 2_000_000})
ROWS = Statement("SELECT id, public, private, retired FROM signing_keys ORDER BY created, id")


def rows():
    return (yield ROWS())


@pytest.fixture
def keys(run, store):
    keys = SigningKeys(store, SECRETS)
    run(keys.refresh())
    return keys


def charge(keys, account, request=b"request", answer=b"answer"):
    """Sign the next receipt of an account as the ledger does."""
    name = f"req_{account.receipts + 1}"
    salt = keys.salt(name)
    quantities = {"call": 1, "record": 2, "byte": len(request) + len(answer)}
    held = Charge(
        run=name,
        account=account.id,
        project="project",
        key="cw_abcdefgh",
        family="cw_abcdefgh",
        model="digits",
        version=3,
        model_digest="ab" * 32,
        mode=Mode.PLAINTEXT,
        price=PRICE,
        amount=PRICE.amount(quantities),
        lifetime=60.0,
    )
    end = End(
        held,
        Outcome.ANSWERED,
        quantities,
        request=digest(salt, "request", request),
        answer=digest(salt, "answer", answer),
    )
    lines = PRICE.lines(quantities)
    text, account.head = keys.receipt(account, end, lines, held.amount, 1_790_000_000)
    account.receipts += 1
    return text


def account():
    return Account("acct_1", 0, 0, 0, GENESIS)


def test_a_receipt_verifies_under_the_published_keys_and_is_recounted(keys):
    receipt = verify(charge(keys, account()), keys_of(keys.jwks()))
    assert (receipt.sequence, receipt.previous, receipt.run) == (1, GENESIS, "req_1")
    assert (receipt.model, receipt.mode, receipt.outcome) == ("digits@3", "plaintext", "answered")
    assert (receipt.price, receipt.amount) == (7, 4002)
    assert recount(receipt, keys.salt("req_1"), b"request", b"answer")["byte"] == 13


def test_every_gateway_signs_with_the_key_of_the_first(keys, run, gateway):
    other = SigningKeys(gateway(), SECRETS)
    run(other.refresh())
    assert other.jwks() == keys.jwks()
    assert other.salt("req_1") == keys.salt("req_1")
    assert charge(other, account()) == charge(keys, account())


def test_gateways_that_start_at_once_agree_on_one_key(run, gateway):
    gateways = [SigningKeys(gateway(), SECRETS) for _ in range(4)]

    async def start():
        await asyncio.gather(*(keys.refresh() for keys in gateways))
        await asyncio.gather(*(keys.refresh() for keys in gateways))

    run(start())
    assert len({str(keys.jwks()) for keys in gateways}) == 1
    assert len(gateways[0].jwks()["keys"]) == 1


def test_a_rotation_is_picked_up_and_breaks_no_chain(keys, run, gateway):
    other = SigningKeys(gateway(), SECRETS)
    run(other.refresh())
    customer = account()
    texts = [charge(keys, customer), charge(other, customer)]
    name = run(keys.rotate())
    texts += [charge(keys, customer), charge(other, customer)]
    run(other.refresh())
    texts.append(charge(other, customer))
    published = keys_of(other.jwks())
    assert verify_chain(texts, published).total.receipts == 5
    assert [verify(text, published).key == name for text in texts] == [False, False, True, False, True]
    assert keys.jwks() == other.jwks()


def test_gateways_that_rotate_at_once_agree(keys, run, gateway):
    gateways = [keys, *(SigningKeys(gateway(), SECRETS) for _ in range(3))]

    async def rotate():
        await asyncio.gather(*(each.refresh() for each in gateways))
        await asyncio.gather(*(each.rotate() for each in gateways))
        await asyncio.gather(*(each.refresh() for each in gateways))

    run(rotate())
    assert len({verify(charge(each, account()), keys_of(keys.jwks())).key for each in gateways}) == 1
    live = [row for row in run(keys._store.read(rows())) if row[3] is None]
    assert len(live) == 1


def test_private_halves_are_sealed_in_the_database(keys, run, store):
    ((name, _, sealed, _),) = run(store.read(rows()))
    seed = SECRETS.open("signing-key", sealed, name.encode())
    assert len(seed) == 32
    assert seed.hex() not in sealed
    assert all("d" not in jwk for jwk in keys.jwks()["keys"])


def test_a_gateway_of_another_secret_is_refused(keys, run, gateway):
    stranger = SigningKeys(gateway(), Secrets(bytes(32)))
    with pytest.raises(ConfigError) as failure:
        run(stranger.refresh())
    assert failure.value.code == "bad_secret"


def test_salts_differ_from_run_to_run_and_from_secret_to_secret(keys, store):
    assert keys.salt("req_1") != keys.salt("req_2")
    assert keys.salt("req_1") != SigningKeys(store, Secrets(bytes(32))).salt("req_1")
    assert len(keys.salt("req_1")) == 16
