"""What a key that manages may hand out: no more than it may do itself."""

from __future__ import annotations

import ipaddress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from cloakwork.errors import CloakworkError, error
from cloakwork_functions.ledger.apikey import Limits

if TYPE_CHECKING:
    from cloakwork_functions.ledger import ApiKey
    from cloakwork_functions.ledger.scope import Scope

__all__ = ["check_delegation"]

WILDCARDS = set("*?[")


def check_delegation(maker: ApiKey, scope: Scope, expires: int | None) -> None:
    """Refuse to make a key that may do what its maker may not, or that outlives it.

    Raises:
        PrivacyError: `below_privacy_floor`.
        AuthError: `scope_exceeded`; `manage_forbidden`, calls of the new key would be outside the maker's
            budget or limits.
    """
    own = maker.scope
    if maker.budget is not None or maker.limits != Limits():
        raise error(
            "manage_forbidden",
            "This API key has a budget or limits of its own, which keys that it made would be outside of; "
            "make them with one that has none.",
        )
    if not scope.floor.meets(own.floor):
        raise error(
            "below_privacy_floor",
            f"This API key makes keys with a floor of {own.floor} or above; ask for that.",
            param="floor",
        )
    if (scope.run and not own.run) or (scope.manage and not own.manage):
        raise _exceeded("run models" if scope.run and not own.run else "manage", "scope")
    if not all(any(_covers(mine, wanted) for mine in own.models) for wanted in scope.models):
        raise _exceeded(f"call other models than {', '.join(own.models)}", "models")
    if not set(scope.modes) <= set(own.modes):
        raise _exceeded(f"call with other privacy than {' or '.join(own.modes)}", "modes")
    if own.addresses and not (scope.addresses and all(_inside(each, own) for each in scope.addresses)):
        raise _exceeded(f"be used from elsewhere than {', '.join(own.addresses)}", "addresses")
    if maker.expires is not None and (expires is None or expires > maker.expires):
        raise _exceeded("be used for longer", "expires")


def _covers(mine: str, wanted: str) -> bool:
    """Tell whether a shell pattern names all that another does; false where that is not plain.

    As text, `*` fits the pattern `?`, yet it names more.
    """
    if mine == wanted:
        return True
    if mine.endswith("*") and not WILDCARDS & set(mine[:-1]):
        return wanted.startswith(mine[:-1])
    return not WILDCARDS & set(wanted) and fnmatchcase(wanted, mine)


def _inside(address: str, scope: Scope) -> bool:
    network = ipaddress.ip_network(address)
    return any(
        network.version == own.version
        and int(own.network_address) <= int(network.network_address)
        and int(network.broadcast_address) <= int(own.broadcast_address)
        for own in map(ipaddress.ip_network, scope.addresses)
    )


def _exceeded(what: str, param: str) -> CloakworkError:
    return error(
        "scope_exceeded",
        f"This API key makes no key that may {what}; ask for less, or have a key make it that may.",
        param=param,
    )
