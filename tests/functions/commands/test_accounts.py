"""`cloakwork accounts`, as an operator types it."""

import re
import sqlite3
import subprocess
from contextlib import closing

import pytest
from conftest import cli

from cloakwork_functions.home import Home


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def refused(home, *arguments):
    with pytest.raises(subprocess.CalledProcessError) as failure:
        cli(home, *arguments)
    assert "Traceback" not in failure.value.stderr
    return failure.value.returncode, failure.value.stderr


def test_from_an_account_to_its_first_key(home):
    assert cli(home, "accounts", "create", "Acme Ltd") == "acme-ltd"
    assert cli(home, "accounts", "project", "acme-ltd", "Fraud", "--budget", "20/month") == "acme-ltd/fraud"
    assert cli(home, "keys", "create", "--project", "acme-ltd/fraud").startswith("cw_")
    listed = cli(home, "keys", "list", "--account", "acme-ltd")
    assert listed.count("cw_") == 1
    assert cli(home, "keys", "list", "--account", "none").count("cw_") == 0


def test_credit_is_added_once_for_a_reference(home):
    cli(home, "accounts", "create", "acme")
    said = cli(home, "accounts", "credit", "acme", "25.50", "--reference", "invoice 1")
    assert said == "Added $25.50 to acme, reference invoice 1."
    assert "before" in cli(home, "accounts", "credit", "acme", "25.50", "--reference", "invoice 1")
    cli(home, "accounts", "credit", "acme", "0.000000001", "--promo")
    cli(home, "accounts", "credit", "acme", "2", "--refund")
    assert "$27.500000001" in cli(home, "accounts", "list")
    balances = re.sub(r"[\s│]+", " ", cli(home, "accounts", "audit"))
    for balance in ("available:acme $27.500000001", "cash -$25.50", "promo -$0.000000001", "refunds -$2.00"):
        assert balance in balances
    assert "The books are sound." in balances


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["credit", "none", "1"], 1, "unknown_account"),
        (["credit", "default", "ten"], 1, "amount_invalid"),
        (["credit", "default", "0"], 1, "amount_invalid"),
        (["credit", "default", "1000001"], 1, "amount_invalid"),
        (["credit", "default", "1", "--reference", "welcome-default"], 1, "reference_used"),
        (["credit", "default", "1", "--promo", "--refund"], 2, "not allowed with"),
        (["create", "DEFAULT"], 1, "name_taken"),
        (["create", "日本"], 1, "bad_request"),
        (["project", "none", "x"], 1, "unknown_account"),
        (["project", "default", "x", "--budget", "x"], 1, "amount_invalid"),
    ],
)
def test_what_cannot_be_is_refused(home, arguments, status, code):
    cli(home, "keys", "create")
    found, said = refused(home, "accounts", *arguments)
    assert (found, code in said) == (status, True), said
    assert "$10.00" in cli(home, "accounts", "list")


def test_alerts_are_shown(home):
    cli(home, "keys", "create")
    with closing(sqlite3.connect(home.database)) as books, books:
        books.execute("INSERT INTO alerts VALUES ('key:cw_Ab3dEf6h', 0, 5000000000, 4000000000, 1700000000)")
    shown = re.sub(r"[\s│]+", " ", cli(home, "accounts", "alerts"))
    assert "key:cw_Ab3dEf6h 2023-11-14 22:13 $4.00 $5.00" in shown


def test_books_that_are_not_sound_are_told_of(home):
    cli(home, "keys", "create")
    with closing(sqlite3.connect(home.database)) as books, books:
        books.execute("UPDATE accounts SET available = available + 1")
    status, said = refused(home, "accounts", "audit")
    assert status == 1
    assert "available:default" in said
    assert "10000000001, 10000000000" in said
