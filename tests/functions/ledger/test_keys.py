"""API keys on both databases."""

import asyncio
import re
from pathlib import Path

import pytest

from cloakwork.errors import AuthError, BusyError, CloakworkError
from cloakwork.wire import Mode
from cloakwork_functions.ledger.accounts import create_account, create_project, open_account
from cloakwork_functions.ledger.allowance import Allowance
from cloakwork_functions.ledger.apikey import Identity, Limits
from cloakwork_functions.ledger.keys import Keys, touch
from cloakwork_functions.ledger.scope import Scope
from cloakwork_functions.ledger.statement import Statement

NOW = 1_800_000_030  # half a minute past
PROJECT = "default/default"


class Clock:
    def __init__(self):
        self.now = float(NOW)

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def keys(run, store, clock):
    run(store.transact(open_account("default")))
    return Keys(store, clock)


@pytest.fixture
def create(run, keys):
    """Make a key: its text and its prefix."""

    def make(scope=None, project=PROJECT, **options):
        key = run(keys.create(project, "laptop", scope, **options))
        return key, key.rpartition("_")[0]

    return make


@pytest.fixture
def refused(run, keys):
    """The code that a key is refused with, or None."""

    def ask(key, keys=keys):
        try:
            run(keys.authenticate(key))
        except AuthError as failure:
            return failure.code
        return None

    return ask


def code(run, asked):
    with pytest.raises(CloakworkError) as failure:
        run(asked)
    return failure.value.code


@pytest.mark.parametrize(("floor", "mark"), list(zip(Mode, ["cw", "cwa", "cwe"], strict=True)))
def test_a_key_says_its_floor_and_is_known_for_what_it_may(run, keys, create, floor, mark):
    scope = Scope(models=("digits",), floor=floor)
    key, prefix = create(scope)
    assert re.fullmatch(mark + "_[A-Za-z0-9]{8}_[A-Za-z0-9]{32}", key)
    assert run(keys.authenticate(key)) == Identity("default", PROJECT, prefix, prefix, scope)


def test_what_is_shown_of_a_key(run, keys, create):
    _, prefix = create(
        Scope(manage=True), expires=NOW + 60, limits=Limits(100, 4), budget=Allowance(5, "day")
    )
    (shown,) = run(keys.list())
    assert shown == run(keys.get(prefix))
    assert (shown.prefix, shown.account, shown.project, shown.name) == (prefix, "default", PROJECT, "laptop")
    assert (shown.created, shown.expires, shown.revoked, shown.last_used) == (NOW, NOW + 60, None, None)
    assert (shown.scope, shown.limits) == (Scope(manage=True), Limits(100, 4))
    assert (shown.budget, shown.spent) == (Allowance(5, "day"), 0)


def test_the_server_trusts_the_stored_scope_and_not_the_text(run, keys, create):
    key, _ = create(Scope(floor=Mode.ENCRYPTED))
    assert code(run, keys.authenticate(key.replace("cwe_", "cw_"))) == "wrong_key"


@pytest.fixture
def files(run, store, database):
    """The folder that the database is in."""
    if isinstance(database, Path):
        return database.parent

    def ask():
        return (yield Statement("SHOW data_directory")())

    ((folder,),) = run(store.read(ask()))
    return Path(folder)


def test_the_key_itself_is_nowhere_in_the_database(files, create, refused):
    key, prefix = create()
    assert refused(key) is None
    stored = b"".join(file.read_bytes() for file in files.rglob("*") if file.is_file())
    assert prefix.encode() in stored
    assert key.rpartition("_")[2].encode() not in stored


def test_wrong_keys_are_refused_alike(run, keys, create):
    key, prefix = create()
    altered = key[:-1] + ("a" if key[-1] != "a" else "b")
    said = set()
    for wrong in (
        "nonsense",
        key[:-1],
        altered,
        prefix,
        "cw_" + key,
        key + "_",
        "cw_12345678_" + key[12:],
        "",
    ):
        with pytest.raises(AuthError) as failure:
            run(keys.authenticate(wrong))
        said.add(str(failure.value))
    (message,) = said
    assert "[wrong_key]" in message


def test_a_revoked_key_is_refused_at_once_on_every_gateway_and_for_good(run, keys, gateway, create, refused):
    key, prefix = create()
    other = Keys(gateway())
    assert refused(key) is refused(key, other) is None
    assert run(other.revoke(prefix))
    assert refused(key) == refused(key, other) == "revoked_key"
    assert not run(keys.revoke(prefix))
    assert refused(key[:-1]) == "wrong_key"
    for unknown in ("cw_nothing0", "cw_\0", "\udc80"):
        assert not run(keys.revoke(unknown))


def test_a_revocation_between_two_reads_that_wait_counts_for_the_later(run, keys, store, create):
    key, prefix = create()

    async def race():
        early = asyncio.create_task(keys.authenticate(key))
        await asyncio.sleep(0)
        await keys.revoke(prefix)
        late = asyncio.create_task(keys.authenticate(key))
        return await asyncio.gather(early, late, return_exceptions=True)

    early, late = run(race())
    assert isinstance(early, Identity) or early.code == "revoked_key"
    assert late.code == "revoked_key"


def test_a_key_expires(create, clock, refused, run, keys):
    key, _ = create(expires=NOW + 10)
    clock.now = NOW + 9.9
    assert refused(key) is None
    clock.now = NOW + 10
    assert refused(key) == "expired_key"
    assert refused(key[:-1]) == "wrong_key"


@pytest.mark.parametrize("expires", [NOW, NOW - 1, 0, NOW + 10**10, 2**70])
def test_a_key_that_expires_never_or_before_it_is_made_is_refused(run, keys, expires):
    assert code(run, keys.create(PROJECT, "x", expires=expires)) == "bad_request"


@pytest.mark.parametrize("project", ["default/none", "default", "\0", "\udc80"])
def test_a_key_needs_a_project(run, keys, project):
    assert code(run, keys.create(project, "x")) == "unknown_project"
    assert run(keys.list()) == []


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb", "\0", "\udc80"])
def test_a_key_needs_a_name(run, keys, name):
    assert code(run, keys.create(PROJECT, name)) == "bad_request"


@pytest.mark.parametrize("limits", [(0, None), (None, 0), (-1, None), (10**6 + 1, None)])
def test_limits_that_are_none(limits):
    with pytest.raises(CloakworkError):
        Limits(*limits)


def test_rotation_keeps_both_for_an_overlap_and_then_the_new_one(run, keys, create, clock, refused):
    scope = Scope(models=("digits",), floor=Mode.ENCRYPTED, addresses=("::1",))
    old, prefix = create(scope, limits=Limits(100, 4), budget=Allowance(5, "month"))
    new = run(keys.rotate(prefix, overlap=3600))
    assert new.startswith("cwe_")
    assert new[:12] != old[:12]
    assert refused(old) is refused(new) is None
    clock.now = NOW + 3600
    assert (refused(old), refused(new)) == ("expired_key", None)
    before, after = run(keys.get(prefix)), run(keys.get(new[:12]))
    for member in ("account", "project", "name", "scope", "limits", "budget"):
        assert getattr(before, member) == getattr(after, member)
    assert (before.expires, after.expires) == (NOW + 3600, None)


def test_a_line_of_rotations_is_a_family_with_one_budget(run, keys, store, create):
    first, prefix = create(limits=Limits(100, 4), budget=Allowance(5, "total"))
    stranger, _ = create(limits=Limits(7, 7), budget=Allowance(7, "total"))
    second = run(keys.rotate(prefix))
    third = run(keys.rotate(second.rpartition("_")[0]))
    assert [run(keys.authenticate(key)).family for key in (first, second, third)] == [prefix] * 3

    def spend():
        yield Statement("UPDATE budgets SET spent = 3 FROM {batch} WHERE subject = batch.name", "name text")(
            [(f"key:{prefix}",)]
        )

    run(store.transact(spend()))
    shown = {key.prefix: (key.limits, key.budget, key.spent) for key in run(keys.list())}
    assert shown.pop(stranger.rpartition("_")[0]) == (Limits(7, 7), Allowance(7, "total"), 0)
    assert len(shown) == 3
    assert set(shown.values()) == {(Limits(100, 4), Allowance(5, "total"), 3)}


def test_of_a_family_one_key_is_revoked_and_the_others_live(run, keys, create, refused):
    old, prefix = create()
    new = run(keys.rotate(prefix))
    assert run(keys.revoke(prefix))
    assert (refused(old), refused(new)) == ("revoked_key", None)
    newest = run(keys.rotate(new.rpartition("_")[0]))
    assert run(keys.revoke(newest.rpartition("_")[0]))
    assert (refused(new), refused(newest)) == (None, "revoked_key")


def test_what_was_spent_in_an_earlier_term_is_not_shown(run, keys, store, clock, create):
    _, prefix = create(budget=Allowance(5, "day"))

    def spend():
        yield Statement(f"UPDATE budgets SET spent = 3, term = {NOW // 86400}")()

    run(store.transact(spend()))
    assert run(keys.get(prefix)).spent == 3
    clock.now += 86400
    assert run(keys.get(prefix)).spent == 0


def test_rotation_of_a_key_that_expires_keeps_its_lifetime(run, keys, create, clock):
    _, prefix = create(expires=NOW + 1000)
    clock.now = NOW + 900
    run(keys.rotate(prefix))
    old, new = run(keys.list())
    assert (old.expires, new.expires) == (NOW + 1000, NOW + 1900)


def test_what_cannot_be_rotated(run, keys, create, clock):
    _, revoked = create()
    _, expired = create(expires=NOW + 1)
    _, rotated = create()
    run(keys.revoke(revoked))
    clock.now = NOW + 1
    heir = run(keys.rotate(rotated)).rpartition("_")[0]
    assert code(run, keys.rotate(revoked)) == code(run, keys.rotate(expired)) == "key_ended"
    with pytest.raises(CloakworkError, match=heir) as failure:
        run(keys.rotate(rotated))
    assert failure.value.code == "key_rotated"
    for unknown in ("cw_nothing0", "\0", "\udc80"):
        assert code(run, keys.rotate(unknown)) == "unknown_key"
    assert (
        code(run, keys.rotate(heir, overlap=-1))
        == code(run, keys.rotate(heir, overlap=2**70))
        == "bad_request"
    )
    run(keys.rotate(heir, overlap=0))


def test_of_gateways_that_rotate_a_key_at_once_one_does(run, keys, gateway, create, clock):
    _, prefix = create()
    others = [keys, Keys(gateway(), clock), Keys(gateway(), clock)]

    async def race():
        return await asyncio.gather(*(each.rotate(prefix) for each in others), return_exceptions=True)

    outcomes = sorted(getattr(outcome, "code", "made") for outcome in run(race()))
    assert outcomes == ["key_rotated", "key_rotated", "made"]


def test_an_account_sees_and_ends_its_own_keys_alone(run, keys, store, create):
    run(store.transact(create_account("other")))
    run(store.transact(create_project("other", "p")))
    _, own = create()
    _, foreign = create(project="other/p")
    assert [key.prefix for key in run(keys.list("default"))] == [own]
    assert {key.prefix for key in run(keys.list())} == {own, foreign}
    assert code(run, keys.get(foreign, "default")) == code(run, keys.rotate(foreign, 1, "default"))
    assert not run(keys.revoke(foreign, "default"))
    assert run(keys.get(foreign, "other")).revoked is None
    assert run(keys.revoke(foreign, "other"))


def test_last_use_is_written_later_to_the_minute_and_never_back(run, keys, store, create, clock):
    key, prefix = create()
    _, unused = create()
    run(keys.authenticate(key))
    assert run(keys.get(prefix)).last_used is None
    run(keys.write_use())
    assert run(keys.get(prefix)).last_used == NOW - 30
    clock.now += 60
    run(keys.authenticate(key))
    run(keys.write_use())
    run(store.transact(touch({prefix: NOW - 30})))
    assert run(keys.get(prefix)).last_used == NOW + 30
    assert run(keys.get(unused)).last_used is None


def test_a_use_that_could_not_be_written_is_written_the_next_time(run, keys, gateway, create, clock):
    key, prefix = create()
    closed = gateway()
    busy = Keys(closed, clock)
    run(busy.authenticate(key))
    run(closed.close())
    assert code(run, busy.write_use()) == "ledger_unavailable"
    busy._store = gateway()
    run(busy.write_use())
    assert run(keys.get(prefix)).last_used == NOW - 30


class Counted:
    """A store that counts what is read."""

    def __init__(self, store):
        self._store = store
        self.reads = 0

    async def read(self, work):
        self.reads += 1
        return await self._store.read(work)


def test_keys_that_are_asked_for_together_are_read_together(run, store, create):
    good, wrong = create()[0], "cw_12345678_wrong"
    counted = Counted(store)
    keys = Keys(counted)

    async def crowd():
        asked = [keys.authenticate(key) for key in [good, wrong] * 50]
        return await asyncio.gather(*asked, return_exceptions=True)

    outcomes = run(crowd())
    assert counted.reads == 1
    assert all(isinstance(outcome, Identity) for outcome in outcomes[::2])
    assert {outcome.code for outcome in outcomes[1::2]} == {"wrong_key"}


def test_whoever_hangs_up_takes_nobody_along(run, store, create):
    key, _ = create()
    keys = Keys(store)

    async def crowd():
        first, second = (asyncio.create_task(keys.authenticate(key)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        return await asyncio.gather(first, second, return_exceptions=True)

    first, second = run(crowd())
    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(second, Identity)


def test_a_store_that_is_gone_is_told_to_each_caller_apart(run, gateway, create):
    key, _ = create()
    gone = gateway()
    run(gone.close())
    keys = Keys(gone)

    async def crowd():
        return await asyncio.gather(*(keys.authenticate(key) for _ in range(2)), return_exceptions=True)

    for _ in range(2):  # and the next ones are not left waiting
        first, second = run(crowd())
        assert isinstance(first, BusyError)
        assert first is not second
