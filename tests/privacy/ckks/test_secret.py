import copy
import os
import pickle
import stat

import numpy as np
import pytest

from cloakwork_privacy.ckks.secret import SecretKeys
from cloakwork_privacy.errors import PrivacyError
from cloakwork_privacy.evaluate import Evaluator

RECORD = np.array([[1.5, 0.0, 7.0]])


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(keys, tmp_path):
    keys.save(tmp_path / "deeper" / "keys")
    return tmp_path / "deeper" / "keys"


def test_files_are_private(folder):
    assert mode(folder) == 0o700
    assert [(file.name, mode(file)) for file in folder.iterdir()] == [("secret.key", 0o600)]


def test_the_file_is_private_from_its_first_byte(keys, tmp_path, monkeypatch):
    modes = []
    write = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: (modes.append(stat.S_IMODE(os.fstat(file).st_mode)), write(file))
    )
    loose = os.umask(0)
    try:
        keys.save(tmp_path / "keys")
    finally:
        os.umask(loose)
    assert modes == [0o600]
    assert mode(tmp_path / "keys") == 0o700


def test_a_failed_write_leaves_the_old_keys(keys, shallow, folder, monkeypatch):
    def full(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        SecretKeys.generate(shallow.signature).save(folder)
    assert [file.name for file in folder.iterdir()] == ["secret.key"]
    assert SecretKeys.load(folder, shallow.signature).fingerprint == keys.fingerprint


def test_loaded_keys_are_the_same(keys, shallow, folder):
    loaded = SecretKeys.load(folder, shallow.signature)
    assert loaded.fingerprint == keys.fingerprint
    assert loaded.evaluation_keys() == keys.evaluation_keys()
    server = Evaluator(shallow)
    request = keys.seal(RECORD)
    answer = server.run(request, server.parse_keys(loaded.evaluation_keys()))
    assert loaded.open(answer, request).tolist() == keys.open(answer, request).tolist()


@pytest.mark.parametrize("loose", [0o640, 0o604, 0o660, 0o601])
def test_a_file_others_may_use_is_refused_with_the_remedy(shallow, folder, loose):
    (folder / "secret.key").chmod(loose)
    with pytest.raises(PrivacyError, match=f"chmod 600 {folder / 'secret.key'}") as caught:
        SecretKeys.load(folder, shallow.signature)
    assert caught.value.code == "key_file_unprotected"


def test_a_folder_others_may_use_is_refused(keys, shallow, folder):
    folder.chmod(0o750)
    for use in (lambda: SecretKeys.load(folder, shallow.signature), lambda: keys.save(folder)):
        with pytest.raises(PrivacyError, match=f"chmod 700 {folder}") as caught:
            use()
        assert caught.value.code == "key_file_unprotected"


@pytest.mark.parametrize("place", [0, 50, 100, 5000, -100, -1])
def test_damage_is_noticed(shallow, folder, place):
    file = folder / "secret.key"
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(PrivacyError) as caught:
        SecretKeys.load(folder, shallow.signature)
    assert caught.value.code == "key_file_damaged"


def test_keys_of_another_program_are_refused(deep, folder):
    with pytest.raises(PrivacyError) as caught:
        SecretKeys.load(folder, deep.signature)
    assert caught.value.code == "keys_for_another_program"


def test_missing_keys_are_missing(shallow, tmp_path):
    with pytest.raises(FileNotFoundError):
        SecretKeys.load(tmp_path / "none", shallow.signature)


def test_nothing_secret_is_shown_or_copied(keys):
    assert repr(keys) == f"SecretKeys(fingerprint='{keys.fingerprint}')"
    for spread in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="do not pickle"):
            spread(keys)


def test_two_requests_of_one_record_differ(keys):
    assert keys.seal(RECORD) != keys.seal(RECORD)


def test_every_generation_is_new(keys, shallow):
    assert SecretKeys.generate(shallow.signature).fingerprint != keys.fingerprint
