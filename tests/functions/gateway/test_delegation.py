"""A key that manages hands out no more than it may do itself."""

from fnmatch import fnmatchcase
from ipaddress import ip_network
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakwork.errors import CloakworkError
from cloakwork.wire import Mode
from cloakwork_functions.gateway.delegation import _covers, check_delegation
from cloakwork_functions.ledger import ApiKey, Limits
from cloakwork_functions.ledger.allowance import Allowance
from cloakwork_functions.ledger.scope import Scope


def maker(expires=None, limits=None, budget=None, **scope):
    scope = Scope(**{"manage": True} | scope)
    return ApiKey("cw_a", "acme", "acme/p", "", scope, 0, expires, None, None, limits or Limits(), budget, 0)


def refusal(of, expires=None, **scope):
    try:
        check_delegation(of, Scope(**scope), expires)
    except CloakworkError as failure:
        return failure.code, failure.param
    return None


def test_a_maker_without_bounds_makes_whatever_there_is():
    assert refusal(maker()) is None
    assert refusal(maker(), manage=True, expires=10**12, addresses=("10.0.0.0/8",)) is None


@pytest.mark.parametrize("mine", [{"limits": Limits(per_minute=1)}, {"budget": Allowance(1)}])
def test_a_maker_with_a_budget_or_limits_makes_none(mine):
    assert refusal(maker(**mine))[0] == "manage_forbidden"


@pytest.mark.parametrize(
    ("mine", "wanted", "code"),
    [
        ({"floor": Mode.ENCRYPTED}, {}, ("below_privacy_floor", "floor")),
        ({"floor": Mode.ENCRYPTED}, {"floor": Mode.ENCRYPTED}, None),
        ({"run": False}, {}, ("scope_exceeded", "scope")),
        ({"run": False}, {"run": False, "manage": True}, None),
        ({"manage": False}, {"manage": True}, ("scope_exceeded", "scope")),
        ({"modes": (Mode.ENCRYPTED,)}, {}, ("scope_exceeded", "modes")),
        ({"modes": (Mode.ENCRYPTED,)}, {"modes": (Mode.ENCRYPTED,)}, None),
        ({"models": ("digits",)}, {}, ("scope_exceeded", "models")),
        ({"models": ("digits", "tumor*")}, {"models": ("tumor-risk", "digits")}, None),
        ({"models": ("digits", "tumor*")}, {"models": ("tumor-*", "other")}, ("scope_exceeded", "models")),
        ({"addresses": ("10.0.0.0/8",)}, {}, ("scope_exceeded", "addresses")),
        ({"addresses": ("10.0.0.0/8",)}, {"addresses": ("0.0.0.0/0",)}, ("scope_exceeded", "addresses")),
        ({"addresses": ("10.0.0.0/8",)}, {"addresses": ("::/0",)}, ("scope_exceeded", "addresses")),
        (
            {"addresses": ("10.0.0.0/8",)},
            {"addresses": ("10.1.0.0/16", "11.0.0.1")},
            ("scope_exceeded", "addresses"),
        ),
        (
            {"addresses": ("2001:db8::/32", "10.0.0.0/8")},
            {"addresses": ("10.255.255.255", "2001:db8::1")},
            None,
        ),
        ({"expires": 100}, {}, ("scope_exceeded", "expires")),
        ({"expires": 100}, {"expires": 101}, ("scope_exceeded", "expires")),
        ({"expires": 100}, {"expires": 100}, None),
    ],
)
def test_what_is_handed_out_lies_within(mine, wanted, code):
    assert refusal(maker(**mine), **wanted) == code


@pytest.mark.parametrize(
    ("mine", "wanted"),
    [("?", "*"), ("a-?", "a-*"), ("a*]", "a[b]"), ("[!x]", "*"), ("a*b", "a*"), ("a", "A"), ("*b", "a[b]")],
)
def test_a_pattern_that_fits_as_text_and_names_more_is_not_covered(mine, wanted):
    assert not _covers(mine, wanted)


def test_a_covered_pattern_names_nothing_that_the_other_does_not():
    patterns, names = texts("a*?[]"), texts("ab[]")
    covered = [pair for pair in product(patterns, repeat=2) if _covers(*pair)]
    assert len(covered) > 2 * len(patterns), "each covers itself, and many cover others"
    for mine, wanted in covered:
        assert all(fnmatchcase(name, mine) for name in names if fnmatchcase(name, wanted))


def texts(letters):
    return ["".join(text) for length in (1, 2, 3) for text in product(letters, repeat=length)]


@given(st.ip_addresses(), st.integers(0, 128), st.ip_addresses(), st.integers(0, 128))
def test_networks_lie_within_as_the_standard_library_says(own, own_bits, new, new_bits):
    mine, wanted = (
        ip_network(f"{address}/{min(bits, address.max_prefixlen)}", strict=False)
        for address, bits in ((own, own_bits), (new, new_bits))
    )
    within = mine.version == wanted.version and wanted.subnet_of(mine)
    refused = refusal(maker(addresses=(str(mine),)), addresses=(str(wanted),))
    assert (refused is None) == within
