import hashlib
import hmac
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakwork.errors import ConfigError
from cloakwork_functions.ledger.secrets import Secrets

MASTER = bytes(range(32))
SECRETS = Secrets(MASTER)
RACERS = 4


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("CLOAKWORK_SECRET", raising=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "secret"


def refused(action, *arguments):
    with pytest.raises(ConfigError) as failure:
        action(*arguments)
    assert failure.value.code == "bad_secret"
    return str(failure.value)


def test_the_file_is_made_once_for_its_owner_alone(path):
    made = Secrets.load(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(path.read_text())) == 32
    assert list(path.parent.iterdir()) == [path]
    assert Secrets.load(path).derive("x") == made.derive("x")


def test_every_home_has_a_secret_of_its_own(tmp_path):
    assert Secrets.load(tmp_path / "a").derive("x") != Secrets.load(tmp_path / "b").derive("x")


def test_who_comes_second_takes_the_firsts(path, monkeypatch):
    first = Secrets.load(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda _: False)  # as the second saw it, a moment ago
        second = Secrets.load(path)
    assert second.derive("x") == first.derive("x")
    assert list(path.parent.iterdir()) == [path]


def load(path, barrier):
    barrier.wait(60)
    return Secrets.load(path).derive("x")


def test_processes_that_start_at_once_agree(path):
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(RACERS, context) as pool:
        barrier = manager.Barrier(RACERS)
        racers = [pool.submit(load, path, barrier) for _ in range(RACERS)]
        assert len({racer.result() for racer in racers}) == 1
    assert list(path.parent.iterdir()) == [path]


def test_the_environment_goes_before_the_file(path, monkeypatch):
    monkeypatch.setenv("CLOAKWORK_SECRET", MASTER.hex())
    assert Secrets.load(path).derive("x") == SECRETS.derive("x")
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "secret", "ab" * 31, "ab" * 33, "zz" * 32, "ab" * 32 + "é"])
def test_a_malformed_secret_is_refused_and_not_repeated(path, monkeypatch, text):
    Secrets.load(path)
    path.write_text(text, "utf-8")
    words = refused(Secrets.load, path)
    assert str(path) in words
    monkeypatch.setenv("CLOAKWORK_SECRET", text)
    assert "CLOAKWORK_SECRET must hold" in refused(Secrets.load, path)
    assert len(text) < 8 or text not in words


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_refused(path, mode):
    Secrets.load(path)
    path.chmod(mode)
    assert "chmod 600" in refused(Secrets.load, path)


def test_keys_are_derived_as_rfc_5869_says():
    extracted = hmac.digest(bytes(32), MASTER, "sha256")
    expanded = hmac.digest(extracted, b"cloakwork answer\x01", "sha256")
    assert SECRETS.derive("answer") == SECRETS.derive("answer") == expanded
    assert SECRETS.derive("request-mac") != expanded


@given(st.text(max_size=20), st.binary(max_size=2000), st.binary(max_size=40))
def test_what_is_sealed_is_opened_and_looks_different_each_time(name, plaintext, context):
    sealed = SECRETS.seal(name, plaintext, context)
    assert SECRETS.open(name, sealed, context) == plaintext
    assert SECRETS.seal(name, plaintext, context) != sealed
    assert sealed.isascii()


@pytest.mark.parametrize(
    ("secrets", "name", "context"),
    [
        (Secrets(hashlib.sha256(MASTER).digest()), "answer", b"req_1"),
        (SECRETS, "signing-key", b"req_1"),
        (SECRETS, "answer", b"req_2"),
    ],
)
def test_another_secret_purpose_or_context_opens_nothing(secrets, name, context):
    words = refused(secrets.open, name, SECRETS.seal("answer", b"plain text", b"req_1"), context)
    assert "plain text" not in words


@pytest.mark.parametrize("sealed", ["", "A", "AAAA", "é", "A" * 64])
def test_what_was_never_sealed_is_refused(sealed):
    refused(SECRETS.open, "answer", sealed, b"req_1")


def test_every_letter_of_what_is_sealed_counts():
    sealed = SECRETS.seal("answer", b"plain text!!", b"req_1")  # 40 bytes and 54 letters, the last of 4 bits
    for place, letter in enumerate(sealed[:53]):
        other = "B" if letter == "A" else "A"
        refused(SECRETS.open, "answer", sealed[:place] + other + sealed[place + 1 :], b"req_1")


def test_the_secret_is_in_no_representation(path):
    secrets = Secrets.load(path)
    assert path.read_text().strip() not in repr(secrets) + str(vars(type(secrets)))


def test_the_folder_is_made_for_its_owner_alone(path):
    previous = os.umask(0)
    try:
        Secrets.load(path)
    finally:
        os.umask(previous)
    assert Path(path.parent).stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
