"""The endpoints about API keys, asked over HTTP inside this process."""

import asyncio
import time
from types import SimpleNamespace

import httpx
import pytest
from starlette.routing import Route, Router

from cloakwork.errors import CODES
from cloakwork.price import Price
from cloakwork.wire import Mode, Path
from cloakwork_functions.gateway.auth import Auth
from cloakwork_functions.gateway.manage import Manage
from cloakwork_functions.gateway.middleware import RequestMiddleware
from cloakwork_functions.gateway.routes import Plain
from cloakwork_functions.ledger import Charge, Keys, Ledger, Secrets
from cloakwork_functions.ledger.accounts import create_project, open_account
from cloakwork_functions.ledger.allowance import Allowance
from cloakwork_functions.ledger.scope import Scope
from cloakwork_functions.ledger.sqlite import SqliteStore

USD = 10**9


class World:
    """Two accounts with a manager's key each, and the endpoints."""

    def __init__(self, run, store):
        self.run, self.store = run, store
        self.keys = Keys(store)
        for name in ("acme", "other"):
            run(store.transact(open_account(name)))
        run(store.transact(create_project("acme", "second")))
        self.manager = self.make("acme/default", Scope(manage=True))
        self.stranger = self.make("other/default", Scope(manage=True))
        service = SimpleNamespace(store=store, keys=self.keys)
        manage = Manage(service, Auth(self.keys))
        router = Router(
            [
                Route(Path.OWN_KEY, Plain(manage.own, ("GET",))),
                Route(Path.KEYS, Plain(manage.keys, ("GET", "POST"))),
                Route(Path.KEY_ROTATION, Plain(manage.rotate, ("POST",))),
                Route(Path.KEY, Plain(manage.key, ("GET", "DELETE"))),
            ]
        )
        self.app = RequestMiddleware(router)

    def make(self, project, scope=None):
        return self.run(self.keys.create(project, "test", scope))

    def ask(self, method, path, key=None, client=("127.0.0.1", 1), **request):
        """Give the status, and the answer or the code it was refused with."""

        async def send():
            transport = httpx.ASGITransport(self.app, client=client)
            headers = {"authorization": f"Bearer {key or self.manager}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
                return await http.request(method, path, headers=headers, **request)

        answer = self.run(send())
        body = answer.json()
        if answer.status_code < 400:
            return answer.status_code, body
        code = body["error"]["code"]
        assert answer.status_code == CODES[code].status
        return answer.status_code, code

    def spend(self, key, amount):
        """Hold an amount, nano-USD, for a call by a key."""

        async def hold():
            who = await self.keys.authenticate(key)
            caller = who.account, who.project, who.prefix, who.family
            call = f"r{amount}", *caller, "m", 1, "d" * 64, Mode.PLAINTEXT, Price(1, {}), amount, 60.0
            ledger = Ledger(self.store, Secrets(bytes(32)), None)  # nothing is signed
            await ledger.hold(Charge(*call))
            await ledger.close()

        self.run(hold())

    def alive(self, key):
        return self.ask("GET", Path.OWN_KEY, key)[0] == 200


def prefix(key):
    return key.rpartition("_")[0]


@pytest.fixture
def world(tmp_path):
    with asyncio.Runner() as runner:
        store = SqliteStore(tmp_path / "books.db")
        yield World(runner.run, store)
        runner.run(store.close())


def test_a_key_is_made_shown_whole_once_and_works(world):
    wanted = {
        "name": "fraud",
        "project": "acme/second",
        "scope": {
            "models": ["digits*"],
            "modes": ["encrypted"],
            "floor": "encrypted",
            "addresses": ["127.0.0.1"],
        },
        "expires": int(time.time()) + 3600,
        "limits": {"per_minute": 60, "concurrency": 2},
        "budget": {"cap": 5 * USD, "period": "day"},
    }
    status, made = world.ask("POST", Path.KEYS, json=wanted)
    assert status == 201
    assert made["key"].startswith(made["shown"]["prefix"] + "_")
    status, own = world.ask("GET", Path.OWN_KEY, made["key"])
    assert status == 200
    assert own["shown"] == made["shown"]
    assert made["key"] not in str(own)
    for name, value in wanted.items():
        if isinstance(value, dict):
            assert value.items() <= own["shown"][name].items()
        else:
            assert own["shown"][name] == value
    assert (own["shown"]["spent"], own["available"], own["held"]) == (0, None, None)
    _, own = world.ask("GET", Path.OWN_KEY)
    assert (own["available"], own["held"]) == (10 * USD, 0), "shown to a key that manages alone"


def test_a_key_of_little_words_is_a_plain_one_of_the_same_project(world):
    _, made = world.ask("POST", Path.KEYS, json={"name": "plain"})
    assert made["shown"]["project"] == "acme/default"
    assert made["shown"]["scope"]["manage"] is False
    assert world.ask("GET", Path.KEYS, made["key"]) == (403, "manage_forbidden")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", Path.KEYS),
        ("POST", Path.KEYS),
        ("GET", Path.KEY),
        ("DELETE", Path.KEY),
        ("POST", Path.KEY_ROTATION),
    ],
)
def test_managing_takes_a_key_that_manages(world, method, path):
    key = world.make("acme/default")
    path = path.format(prefix=prefix(key))
    assert world.ask(method, path, key) == (403, "manage_forbidden")
    assert world.ask(method, path, "nonsense") == (401, "wrong_key")
    assert world.alive(key)


def test_only_keys_of_the_own_account_are_seen_and_changed(world):
    own, foreign = world.make("acme/second"), world.make("other/default")
    _, listed = world.ask("GET", Path.KEYS)
    assert {key["prefix"] for key in listed["keys"]} == {prefix(own), prefix(world.manager)}
    for method, path in (("GET", Path.KEY), ("DELETE", Path.KEY), ("POST", Path.KEY_ROTATION)):
        assert world.ask(method, path.format(prefix=prefix(foreign))) == (404, "unknown_key")
    for project in ("other/default", "acme", "acme/none", "", "/"):
        asked = {"name": "x", "project": project}
        expected = (201, None) if project == "" else (404, "unknown_project")
        status, said = world.ask("POST", Path.KEYS, json=asked)
        assert (status, said if status == 404 else None) == expected
    assert world.alive(foreign)


def test_revoking_counts_at_once_and_again_changes_nothing(world):
    key = world.make("acme/default")
    path = Path.KEY.format(prefix=prefix(key))
    _, first = world.ask("DELETE", path)
    assert first["revoked"] is not None
    assert world.ask("DELETE", path) == (200, first) == world.ask("GET", path)
    assert world.ask("GET", Path.OWN_KEY, key) == (401, "revoked_key")


def test_rotating_gives_the_successor_whole(world):
    key = world.make("acme/second", Scope(floor=Mode.ENCRYPTED))
    path = Path.KEY_ROTATION.format(prefix=prefix(key))
    status, made = world.ask("POST", path, json={"overlap": 3600})
    assert status == 201
    assert world.alive(key)
    assert world.alive(made["key"])
    assert world.ask("POST", path) == (409, "key_rotated")
    _, old = world.ask("GET", Path.KEY.format(prefix=prefix(key)))
    assert 0 < old["expires"] - time.time() <= 3600
    _, last = world.ask("POST", Path.KEY_ROTATION.format(prefix=prefix(made["key"])), json={"overlap": 0})
    assert not world.alive(made["key"])
    assert world.alive(last["key"])


def test_a_rotated_key_and_its_successor_show_the_budget_that_they_share(world):
    wanted = {"name": "x", "limits": {"per_minute": 60, "concurrency": 2}, "budget": {"cap": 100}}
    _, made = world.ask("POST", Path.KEYS, json=wanted)
    old = made["shown"]["prefix"]
    _, heir = world.ask("POST", Path.KEY_ROTATION.format(prefix=old))
    assert heir["shown"]["prefix"] != old
    world.spend(made["key"], 30)
    world.spend(heir["key"], 12)
    for key in (made, heir):
        _, own = world.ask("GET", Path.OWN_KEY, key["key"])
        assert own["shown"]["prefix"] == key["shown"]["prefix"]
        assert own["shown"]["limits"] == wanted["limits"]
        assert (own["shown"]["budget"]["cap"], own["shown"]["spent"]) == (100, 42)
        assert world.ask("GET", Path.KEY.format(prefix=key["shown"]["prefix"])) == (200, own["shown"])
    _, listed = world.ask("GET", Path.KEYS)
    assert [key["spent"] for key in listed["keys"] if key["budget"]] == [42, 42]
    world.ask("DELETE", Path.KEY.format(prefix=old))
    assert not world.alive(made["key"])
    assert world.alive(heir["key"])


def test_a_floor_binds_the_keys_that_a_key_hands_out(world):
    manager = world.make("acme/default", Scope(manage=True, floor=Mode.ANONYMIZED))
    weak, strong = world.make("acme/default"), world.make("acme/default", Scope(floor=Mode.ENCRYPTED))
    below = (403, "below_privacy_floor")
    assert world.ask("POST", Path.KEYS, manager, json={"name": "x"}) == below
    assert world.ask("POST", Path.KEY_ROTATION.format(prefix=prefix(weak)), manager) == below
    floor = {"floor": "anonymized"}
    assert world.ask("POST", Path.KEYS, manager, json={"name": "x", "scope": floor})[0] == 201
    assert world.ask("POST", Path.KEY_ROTATION.format(prefix=prefix(strong)), manager)[0] == 201


def test_no_key_is_made_or_rotated_that_may_do_more_than_its_maker(world):
    exceeded = (403, "scope_exceeded")
    manager = world.make("acme/default", Scope(manage=True, models=("digits*",)))
    assert world.ask("POST", Path.KEYS, manager, json={"name": "x"}) == exceeded
    broad, narrow = world.make("acme/default"), world.make("acme/default", Scope(models=("digits",)))
    assert world.ask("POST", Path.KEY_ROTATION.format(prefix=prefix(broad)), manager) == exceeded
    assert world.ask("POST", Path.KEY_ROTATION.format(prefix=prefix(narrow)), manager)[0] == 201
    assert world.alive(broad)
    assert len(world.ask("GET", Path.KEYS)[1]["keys"]) == 5


def test_a_key_that_expires_does_not_outlive_itself_by_rotation(world):
    now = int(time.time())
    mortal = world.run(world.keys.create("acme/default", "x", Scope(manage=True), expires=now + 3600))
    lasting = world.make("acme/default")
    exceeded = (403, "scope_exceeded")
    assert world.ask("POST", Path.KEY_ROTATION.format(prefix=prefix(lasting)), mortal) == exceeded
    short = world.run(world.keys.create("acme/default", "x", expires=now + 600))
    assert world.ask("POST", Path.KEY_ROTATION.format(prefix=prefix(short)), mortal)[0] == 201


def test_a_manager_with_a_budget_makes_no_keys(world):
    allowance = Allowance(100)
    manager = world.run(world.keys.create("acme/default", "x", Scope(manage=True), budget=allowance))
    assert world.ask("POST", Path.KEYS, manager, json={"name": "x"}) == (403, "manage_forbidden")
    rotation = Path.KEY_ROTATION.format(prefix=prefix(world.make("acme/default")))
    assert world.ask("POST", rotation, manager) == (403, "manage_forbidden")
    assert world.ask("GET", Path.KEYS, manager)[0] == 200


def test_an_address_list_counts_for_every_endpoint(world):
    scope = Scope(manage=True, addresses=("192.0.2.0/24", "2001:db8::/32"))
    key = world.make("acme/default", scope)
    for path in (Path.OWN_KEY, Path.KEYS):
        assert world.ask("GET", path, key) == (403, "address_forbidden")
        for inside in ("192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7"):
            assert world.ask("GET", path, key, client=(inside, 1))[0] == 200
        assert world.ask("GET", path, key, client=("2001:db9::7", 1)) == (403, "address_forbidden")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_json"),
        (b"[]", "bad_json"),
        (b"{", "bad_json"),
        (b'{"name": "\xff"}', "bad_json"),
        (b'{"name": "x", "nome": 1}', "bad_json"),
        (b'{"name": 1}', "bad_json"),
        (b'{"name": ""}', "bad_request"),
        (b'{"name": "\\u0000"}', "bad_request"),
        (b'{"name": "\\ud800"}', "bad_json"),
        (b'{"name": "x", "scope": {"floor": "none"}}', "bad_json"),
        (b'{"name": "x", "scope": {"countries": []}}', "bad_json"),
        (b'{"name": "x", "scope": {"models": []}}', "scope_invalid"),
        (b'{"name": "x", "scope": {"addresses": ["x"]}}', "scope_invalid"),
        (b'{"name": "x", "limits": {"per_minute": 0}}', "scope_invalid"),
        (b'{"name": "x", "budget": {"cap": -1}}', "amount_invalid"),
        (b'{"name": "x", "budget": {"cap": 1, "alert": 101}}', "amount_invalid"),
        (b'{"name": "x", "budget": {"cap": 1, "period": "year"}}', "bad_json"),
        (b'{"name": "x", "expires": 1}', "bad_request"),
        (b'{"name": "x", "expires": 1' + b"0" * 30 + b"}", "bad_request"),
        (b'{"name": "x", "project": "acme/\\u0000"}', "unknown_project"),
        (b'{"name": "' + b"x" * (64 << 10) + b'"}', "body_too_large"),
    ],
)
def test_bad_orders(world, body, code):
    assert world.ask("POST", Path.KEYS, content=body)[1] == code
    assert len(world.ask("GET", Path.KEYS)[1]["keys"]) == 1


@pytest.mark.parametrize("odd", ["cw_nothing0", "%00", "%ff", "%ed%a0%80", "x" * 1000])
def test_prefixes_that_no_key_has(world, odd):
    for method in ("GET", "DELETE"):
        assert world.ask(method, f"/v1/keys/{odd}")[0] == 404
    assert world.ask("POST", f"/v1/keys/{odd}/rotate")[0] == 404


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic abc"])
def test_no_key(world, authorization):
    headers = {} if authorization is None else {b"authorization": authorization.encode()}
    request = {"type": "http", "header_map": headers}
    with pytest.raises(Exception, match="missing_key") as refused:
        world.run(Auth(world.keys).identify(request))
    assert refused.value.param == "authorization"


def test_only_code_in_this_process_calls_without_a_key(world):
    identity = world.run(Auth(world.keys).identify({"type": "http", "account": "local", "header_map": {}}))
    assert (identity.account, identity.project) == ("local", "local/default")
    assert identity.prefix == identity.family == "local"
    assert world.ask("GET", Path.OWN_KEY + "?account=local", "local") == (401, "wrong_key")
