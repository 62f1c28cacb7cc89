"""What a key may do, without a store."""

import json
from ipaddress import ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cloakwork.errors import CODES, CloakworkError, ConfigError, InputError
from cloakwork.wire import Mode
from cloakwork_functions.ledger.scope import Scope

# Each pattern with what it permits of these models.
MODELS = ("digits", "digits-large", "tumor-risk")
PERMITS = {
    "*": set(MODELS),
    "digits": {"digits"},
    "digits*": {"digits", "digits-large"},
    "*-*": {"digits-large", "tumor-risk"},
    "[a-d]*": {"digits", "digits-large"},
    "Digits": set(),
    "digit": set(),
}
PLAINTEXT, ANONYMIZED, ENCRYPTED = Mode
# Written out, so that the order of the modes is not tested against itself.
ABOVE = {
    PLAINTEXT: {PLAINTEXT, ANONYMIZED, ENCRYPTED},
    ANONYMIZED: {ANONYMIZED, ENCRYPTED},
    ENCRYPTED: {ENCRYPTED},
}


@st.composite
def scopes(draw):
    floor = draw(st.sampled_from(Mode))
    modes = tuple(draw(st.lists(st.sampled_from(Mode), min_size=1, unique=True)))
    assume(ABOVE[floor] & set(modes))
    run = draw(st.booleans())
    return Scope(
        models=tuple(draw(st.lists(st.sampled_from(list(PERMITS)), min_size=1, max_size=3))),
        modes=modes,
        manage=not run or draw(st.booleans()),
        run=run,
        floor=floor,
        addresses=tuple(draw(st.lists(st.sampled_from(["192.0.2.0/24", "2001:db8::/32"]), max_size=2))),
    )


def code(check, *arguments):
    try:
        check(*arguments)
    except CloakworkError as failure:
        refused = failure
    else:
        return None
    assert isinstance(refused, CODES[refused.code].kind)
    assert refused.status == 403
    return refused.code


@given(scopes(), st.sampled_from(MODELS), st.sampled_from(Mode))
def test_a_call_is_let_in_by_models_modes_and_floor_together(scope, model, mode):
    wanted = None
    if mode not in scope.modes:
        wanted = "mode_forbidden"
    if mode not in ABOVE[scope.floor]:
        wanted = "below_privacy_floor"
    if not any(model in PERMITS[pattern] for pattern in scope.models):
        wanted = "model_forbidden"
    if not scope.run:
        wanted = "run_forbidden"
    assert code(scope.check, model, mode) == wanted
    assert code(scope.check_manage) == (None if scope.manage else "manage_forbidden")


@given(scopes())
def test_a_scope_survives_being_stored(scope):
    assert Scope.from_json(scope.to_json()) == scope


@given(st.data(), st.sampled_from(["192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "::1", "0.0.0.0/0"]))
def test_an_address_list_admits_its_networks_and_nothing_else(data, network):
    scope = Scope(addresses=("203.0.113.0/24", network))
    inside = data.draw(st.ip_addresses(network=network))
    assert code(scope.check_address, str(inside)) is None
    other = data.draw(st.ip_addresses())
    listed = any(other in ip_network(each) for each in scope.addresses)
    assume(getattr(other, "ipv4_mapped", None) is None)
    assert code(scope.check_address, str(other)) == (None if listed else "address_forbidden")


def test_ipv4_over_a_socket_for_both_is_ipv4():
    scope = Scope(addresses=("192.0.2.0/24",))
    assert code(scope.check_address, "::ffff:192.0.2.9") is None
    assert code(scope.check_address, "::ffff:192.0.3.9") == "address_forbidden"


@pytest.mark.parametrize("address", [None, "", "unix", "192.0.2.999"])
def test_an_address_list_refuses_who_cannot_be_told(address):
    assert code(Scope(addresses=("0.0.0.0/0", "::/0")).check_address, address) == "address_forbidden"
    assert code(Scope().check_address, address) is None


@pytest.mark.parametrize(
    "members",
    [
        {"run": False},
        {"models": ()},
        {"models": ("",)},
        {"models": ("a",) * 101},
        {"modes": ()},
        {"modes": (PLAINTEXT, ANONYMIZED), "floor": ENCRYPTED},
        {"addresses": ("192.0.2.1/24",)},
        {"addresses": ("example.org",)},
        {"addresses": ("",)},
        {"addresses": ("192.0.2.0/24",) * 101},
    ],
)
def test_a_scope_that_means_nothing_is_refused(members):
    with pytest.raises(InputError) as refused:
        Scope(**members)
    assert refused.value.code == "scope_invalid"


@pytest.mark.parametrize(
    "change",
    [{"countries": ["de"]}, {"floor": "quantum"}, {"models": "*"}, {"run": 1}, {"addresses": ["x"]}],
)
def test_a_stored_scope_that_is_not_understood_lets_nobody_in(change):
    with pytest.raises(ConfigError) as refused:
        Scope.from_json(json.dumps(json.loads(Scope().to_json()) | change))
    assert refused.value.code == "other_schema"


def test_refusals_name_the_remedy():
    scope = Scope(models=("digits*",), modes=(PLAINTEXT, ENCRYPTED))
    with pytest.raises(CloakworkError, match=r"may call digits\* only; call with another key"):
        scope.check("tumor-risk", PLAINTEXT)
    with pytest.raises(CloakworkError, match="privacy plaintext or encrypted only"):
        scope.check("digits", ANONYMIZED)
    with pytest.raises(CloakworkError, match="only send records anonymized or encrypted"):
        Scope(floor=ANONYMIZED).check("digits", PLAINTEXT)
