"""`cloakwork keys`, as an operator types it."""

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
    assert failure.value.stdout == ""
    assert "Traceback" not in failure.value.stderr
    return failure.value.returncode, failure.value.stderr


def test_create_prints_the_key_alone_and_opens_the_default_account_once(home):
    keys = {cli(home, "keys", "create"), cli(home, "keys", "create", "--name", "laptop")}
    assert len(keys) == 2
    assert all(re.fullmatch(r"cw_[A-Za-z0-9]{8}_[A-Za-z0-9]{32}", key) for key in keys)
    with sqlite3.connect(home.database) as books:
        assert books.execute("SELECT id, available FROM accounts").fetchall() == [("default", 10 * 10**9)]
        assert books.execute("SELECT id FROM projects").fetchall() == [("default/default",)]
    books.close()


def test_what_a_key_may_do_is_said_in_the_list(home):
    scope = "--models digits*,tumor-risk --floor anonymized --modes plaintext,encrypted --manage"
    limits = "--allow 192.0.2.0/24,::1 --expires 0.5 --per-minute 60 --concurrency 2 --budget 5/day"
    key = cli(home, "keys", "create", "--name", "[red]fraud", *scope.split(), *limits.split())
    assert key.startswith("cwa_")
    listed = cli(home, "keys", "list")
    assert key[:12] in listed
    assert key[13:] not in listed
    words = re.sub(r"[\s│]+", " ", listed)
    for word in ("[red]fraud", "tumor-risk", "manage", "192.0.2.0/24", "live until"):
        assert word in words
    assert "of $5.00 a day" in words


def test_limits_and_budgets_are_changed_and_removed_for_a_key_and_its_successor(home):
    old = cli(home, "keys", "create", "--per-minute", "60")[:11]
    new = cli(home, "keys", "rotate", old)[:11]
    said = cli(home, "keys", "limit", new, "--per-minute", "5", "--concurrency", "2")
    assert said == "5 calls at once, refilled at 5 a minute and 2 under way, on *."
    cli(home, "keys", "limit", old, "--model", "digits", "--concurrency", "1")
    cli(home, "keys", "limit", "*", "--per-minute", "100")
    cli(home, "keys", "budget", new, "20/month")
    assert cli(home, "keys", "list").count("$20.00") == 2
    assert limits(home) == {("*", "*", 100, None), (old, "*", 5, 2), (old, "digits", None, 1)}
    assert cli(home, "keys", "limit", old) == "any number of calls, on *."
    assert limits(home) == {("*", "*", 100, None), (old, "digits", None, 1)}


def limits(home):
    with closing(sqlite3.connect(home.database)) as books:
        return set(books.execute("SELECT key, model, per_minute, concurrency FROM limits"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["limit", "cw_none", "--per-minute", "1"], "unknown_key"),
        (["limit", "*", "--per-minute", "0"], "scope_invalid"),
        (["limit", "*", "--model", "digits@1"], "scope_invalid"),
        (["limit", "*", "--model", ""], "scope_invalid"),
        (["budget", "cw_none", "5"], "unknown_key"),
        (["budget", "*", "5"], "unknown_key"),
        (["budget", "cw_none", "ten"], "amount_invalid"),
    ],
)
def test_a_limit_or_budget_that_cannot_be_is_refused(home, arguments, code):
    status, said = refused(home, "keys", *arguments)
    assert (status, code in said) == (1, True), said
    assert limits(home) == set()


def test_rotate_prints_the_successor_and_revoke_ends_it(home):
    old = cli(home, "keys", "create", "--floor", "encrypted")
    new = cli(home, "keys", "rotate", old[:12], "--overlap", "60")
    assert new.startswith("cwe_")
    assert cli(home, "keys", "revoke", new[:12]) == f"Revoked {new[:12]}."
    assert cli(home, "keys", "list").count("│ revoked") == 1
    assert "key_rotated" in refused(home, "keys", "rotate", old[:12])[1]
    assert refused(home, "keys", "revoke", new[:12])[0] == 1


def test_a_whole_key_given_for_a_prefix_is_not_printed_back(home):
    key = cli(home, "keys", "create")
    for action in ("rotate", "revoke"):
        status, said = refused(home, "keys", action, key)
        assert (status, key in said) == (1, False)


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--project", "default/none"], 1, "unknown_project"),
        (["--allow", "192.0.2.1/24"], 1, "scope_invalid"),
        (["--modes", "plaintext", "--floor", "encrypted"], 1, "scope_invalid"),
        (["--no-run"], 1, "scope_invalid"),
        (["--per-minute", "0"], 1, "scope_invalid"),
        (["--budget", "5/year"], 1, "amount_invalid"),
        (["--budget", "0.0000000001"], 1, "amount_invalid"),
        (["--name", ""], 1, "bad_request"),
        (["--modes", "loud"], 2, "must be some of plaintext,anonymized,encrypted"),
        (["--floor", "loud"], 2, "invalid choice"),
        (["--expires", "0"], 2, "positive number of days"),
        (["--expires", "nan"], 2, "positive number of days"),
    ],
)
def test_a_key_that_cannot_be_is_refused(home, options, status, said):
    found, words = refused(home, "keys", "create", *options)
    assert (found, said in words) == (status, True), words
