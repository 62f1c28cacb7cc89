"""Limits that change, on SQLite and on Postgres."""

import pytest
from calls import charge, failed

from cloakwork.errors import BusyError, InputError, NotFoundError
from cloakwork_functions.ledger import Held, Keys, Limits

ONE = Limits(concurrency=1)


@pytest.fixture
def keys(store, ledger):  # the ledger makes the project
    return Keys(store)


@pytest.fixture
def caller(run, keys):
    """Make a key; gives how it calls."""

    def caller():
        made = run(keys.authenticate(run(keys.create("a/p", "test"))))
        return {"key": made.prefix, "family": made.family}

    return caller


def test_a_limit_of_a_key_and_model_holds_for_them_alone_and_can_be_removed(run, ledger, keys, caller):
    mine, other = caller(), caller()
    run(keys.limit(mine["key"], ONE, "m"))
    run(ledger.hold(charge("r1", **mine)))
    run(ledger.hold(charge("r2", model="n", **mine)))
    run(ledger.hold(charge("r3", **other)))
    run(ledger.hold(charge("r4", **other)))
    with pytest.raises(BusyError):
        run(ledger.hold(charge("r5", **mine)))
    run(keys.limit(mine["key"], Limits(concurrency=2), "m"))
    assert isinstance(run(ledger.hold(charge("r6", **mine))), Held)
    with pytest.raises(BusyError):
        run(ledger.hold(charge("r7", **mine)))
    run(keys.limit(mine["key"], Limits(), "m"))
    assert isinstance(run(ledger.hold(charge("r8", **mine))), Held)


def test_a_limit_for_each_key_holds_for_those_that_have_none(run, ledger, keys, caller):
    mine, other = caller(), caller()
    run(keys.limit("*", ONE))
    run(keys.limit(other["key"], Limits(concurrency=5)))
    for number, who in enumerate((mine, other, other)):
        run(ledger.hold(charge(f"r{number}", **who)))
    with pytest.raises(BusyError):
        run(ledger.hold(charge("r9", **mine)))
    run(ledger.end(failed(charge("r0", **mine))))
    assert isinstance(run(ledger.hold(charge("r9", **mine))), Held)


def test_a_limit_set_by_a_successor_is_the_familys(run, ledger, keys, caller):
    mine = caller()
    heir = run(keys.rotate(mine["key"])).rpartition("_")[0]
    run(keys.limit(heir, ONE))
    run(ledger.hold(charge("r1", **mine)))
    with pytest.raises(BusyError):
        run(ledger.hold(charge("r2", key=heir, family=mine["family"])))
    assert [key.limits for key in run(keys.list())] == [ONE, ONE]


@pytest.mark.parametrize("prefix", ["cw_none", "*"])
def test_a_key_of_another_account_and_each_key_are_not_an_accounts_to_limit(run, keys, prefix):
    with pytest.raises(NotFoundError):
        run(keys.limit(prefix, ONE, account="a"))


@pytest.mark.parametrize("model", ["", "m@1", "a\0", "x" * 101, "\udc80"])
def test_a_model_that_is_no_name_is_refused(run, keys, model):
    with pytest.raises(InputError):
        run(keys.limit("*", ONE, model))
