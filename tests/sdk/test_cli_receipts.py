"""`cloakwork receipts verify`, with no service anywhere."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import CLI

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "receipts.json").read_text("utf-8"))
CHAIN = [vector["receipt"] for vector in VECTORS["chain"]]


@pytest.fixture
def verify(config, tmp_path):
    """Run the command on a text, with the committed keys."""
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps(VECTORS["jwks"]))

    def run(text, *arguments):
        command = [*CLI, "receipts", "verify", "-", "--keys", keys, *arguments]
        environment = os.environ | {"CLOAKWORK_CONFIG": str(config)}
        return subprocess.run(
            command, env=environment, input=text, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture
def evidence(tmp_path):
    """The arguments that recount a vector."""

    def write(vector):
        for name in ("request", "answer"):
            (tmp_path / name).write_bytes(bytes.fromhex(vector[name]))
        files = "--request", tmp_path / "request", "--answer", tmp_path / "answer"
        return *files, "--salt", vector["salt"]

    return write


@pytest.mark.parametrize("write", ["\n".join, json.dumps])
def test_a_chain_is_summed_up(verify, write):
    done = verify(write(CHAIN))
    assert (done.returncode, done.stderr) == (0, "")
    assert "good: receipts 1 to 4 of account acct_Vectors1" in done.stdout
    assert VECTORS["chain"][-1]["hash"] in done.stdout
    assert "digits@1                 encrypted          1  $0.000019029" in done.stdout
    assert "4  $0.000021032" in done.stdout


def test_the_first_bad_receipt_is_named(verify):
    done = verify("\n".join([CHAIN[0], CHAIN[2], CHAIN[3]]))
    assert (done.returncode, done.stdout) == (1, "")
    assert "Receipt 2 of 3: Dropped: number 2 is missing" in done.stderr


def test_a_chain_goes_on_from_a_trusted_receipt(verify, tmp_path):
    (tmp_path / "start").write_text(CHAIN[0])
    done = verify("\n".join(CHAIN[1:]), "--start", tmp_path / "start")
    assert "good: receipts 2 to 4 of account acct_Vectors1" in done.stdout


def test_one_receipt_is_shown_by_itself(verify):
    done = verify(CHAIN[2])
    assert done.returncode == 0
    assert "good: receipt 3 of account acct_Vectors1" in done.stdout
    assert "$0.000019029" in done.stdout


def test_one_receipt_is_recounted(verify, evidence):
    done = verify(CHAIN[2], *evidence(VECTORS["chain"][2]))
    assert done.returncode == 0, done.stderr
    assert "recounted from the bodies: 1 call, 298 byte, 3 record, 6 ciphertext" in done.stdout


def test_bodies_of_another_call_are_refused(verify, evidence):
    done = verify(CHAIN[2], *evidence(VECTORS["chain"][0]))
    assert done.returncode == 1
    assert "is for another request" in done.stderr


@pytest.mark.parametrize(
    ("text", "arguments", "code"),
    [
        ("", (), "receipt_invalid"),
        ("[]", (), "receipt_invalid"),
        ("7", (), "receipt_invalid"),
        ("[7]", (), "receipt_invalid"),
        ("{}", (), "receipt_invalid"),
        (CHAIN[0], ("--salt", "00"), "bad_request"),
        (CHAIN[0], ("--keys", __file__), "receipt_keys_invalid"),
    ],
)
def test_failures_are_one_line_and_status_1(verify, text, arguments, code):
    done = verify(text, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"[{code}]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("salt", ["no", "00"])
def test_a_salt_that_is_none_is_refused(verify, evidence, salt):
    done = verify(CHAIN[0], *evidence(VECTORS["chain"][0]), "--salt", salt)
    assert done.returncode == 1
    assert "[bad_request]" in done.stderr
