import re

import pytest

from cloakwork.errors import AuthError
from cloakwork_functions.ledger import Keys
from cloakwork_functions.ledger.database import open_database


@pytest.fixture
def path(tmp_path):
    return tmp_path / "books.db"


@pytest.fixture
def keys(path):
    connection = open_database(path)
    yield Keys(connection)
    connection.close()


def refused(keys, authorization):
    with pytest.raises(AuthError) as failure:
        keys.authenticate(authorization)
    return failure.value.code


def test_a_key_opens_the_door_under_its_prefix(keys):
    key = keys.create("laptop")
    assert re.fullmatch(r"cw_[A-Za-z0-9]{8}_[A-Za-z0-9]{32}", key)
    assert keys.authenticate(f"Bearer {key}") == key[:11] == keys.list()[0].prefix


def test_the_key_itself_is_not_in_the_database(keys, path):
    key = keys.create("laptop")
    stored = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert key[:11].encode() in stored
    assert key[12:].encode() not in stored


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic abc"])
def test_no_key(keys, authorization):
    assert refused(keys, authorization) == "missing_key"


def test_wrong_keys(keys):
    key = keys.create("laptop")
    for wrong in ("nonsense", key[:-1], key[:-1] + ("a" if key[-1] != "a" else "b"), key[:11], "cw_" + key):
        assert refused(keys, f"Bearer {wrong}") == "wrong_key"


def test_a_revoked_key_is_refused_at_once_and_for_good(keys):
    key = keys.create("laptop")
    assert keys.revoke(key[:11])
    assert refused(keys, f"Bearer {key}") == "revoked_key"
    assert not keys.revoke(key[:11])
    assert not keys.revoke("cw_nothing0")


def test_the_database_is_its_owners_alone(keys, path):
    assert path.stat().st_mode & 0o077 == 0
