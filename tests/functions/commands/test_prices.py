"""`cloakwork prices`, as an operator types it."""

import subprocess

import pytest
from conftest import cli

from cloakwork.price import UNITS
from cloakwork_functions.home import Home


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def cells(text):
    """Rows of a table, without its lines."""
    return [[cell.strip() for cell in line[1:-1].split("│")] for line in text.splitlines() if line[0] == "│"]


def test_prices_are_set_listed_and_remembered(home):
    assert "version" in cli(home, "prices")
    said = cli(
        home, "prices", "set", "digits", "encrypted", "--per-record", "0.00002", "--per-second", "0.01"
    )
    assert said == "Version 1: digits, encrypted: $0.00002 a record + $0.01 a second."
    cli(home, "prices", "set", "digits", "encrypted", "--per-call", "0.001")
    cli(home, "prices", "set", "wine", "plaintext", "--per-record", "0")
    listed = cells(cli(home, "prices"))
    assert [[row[0], row[1], row[2], row[-1]] for row in listed] == [
        ["digits", "encrypted", "2", "$0.001 a call"],
        ["wine", "plaintext", "3", "$0 a record"],
    ]
    assert [row[2] for row in cells(cli(home, "prices", "history", "digits")) if row[2]] == ["1", "2"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("digits", "plaintext"), 1, "[bad_price]"),
        (("digits@1", "plaintext", "--per-call", "1"), 1, "[bad_price]"),
        (("digits", "plaintext", "--per-call", "0.0000000000001"), 1, "[bad_price]"),
        (("digits", "plaintext", "--per-second", "0.0000001"), 1, "[bad_price]"),
        (("digits", "plaintext", "--per-call=-1"), 1, "[bad_price]"),
        (("digits", "plaintext", "--per-ciphertext", "1"), 1, "[bad_price]"),
        (("digits", "plaintext", "--per-token", "1"), 2, "unrecognized arguments"),
        (("digits", "plaintext", "--per-call", "sNaN"), 2, "US dollars"),
        (("digits", "plaintext", "--per-second", "0.0000010000000000000000000000000001"), 2, "US dollars"),
        (("digits", "secret", "--per-call", "1"), 2, "invalid choice"),
    ],
)
def test_what_is_no_price_is_refused_and_changes_nothing(home, arguments, status, words):
    with pytest.raises(subprocess.CalledProcessError) as failure:
        cli(home, "prices", "set", *arguments)
    assert failure.value.returncode == status
    assert words in failure.value.stderr
    assert "Traceback" not in failure.value.stderr
    assert cells(cli(home, "prices")) == []


def test_there_is_an_option_for_every_unit_that_is_counted(home):
    units = [unit.replace("microsecond", "second") for unit in UNITS if unit != "token"]
    said = cli(home, "prices", "set", "m", "encrypted", *(f"--per-{unit}=0.000001" for unit in units))
    assert all(f"a {unit}" in said for unit in units)
