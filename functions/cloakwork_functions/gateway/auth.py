"""Who calls: an API key's holder from an address that the key allows, or code in this process.

The address is that of the socket's other end, which nobody can claim to be. Behind a proxy it is the proxy's:
then a key's list of addresses can tell proxies apart, not callers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloakwork.errors import AuthError, error
from cloakwork_functions.ledger.accounts import DEFAULT
from cloakwork_functions.ledger.apikey import Identity
from cloakwork_functions.ledger.scope import Scope

from .http import header

if TYPE_CHECKING:
    from starlette.types import Scope as Request

    from cloakwork_functions.ledger import Keys

__all__ = ["LOCAL", "Auth", "check_model"]

LOCAL = "local"
IN_PROCESS = Identity(LOCAL, f"{LOCAL}/{DEFAULT}", LOCAL, LOCAL, Scope(manage=True))


class Auth:
    """Identifies callers by a store's keys."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def identify(self, request: Request) -> Identity:
        """Tell who calls. Only code in this process can set a request's account; the network cannot.

        Raises:
            AuthError: `missing_key`, `wrong_key`, `revoked_key`, `expired_key` or `address_forbidden`.
            BusyError: `ledger_unavailable`.
        """
        if request.get("account") == LOCAL:
            return IN_PROCESS
        scheme, _, key = (header(request, "authorization") or "").partition(" ")
        try:
            if scheme.lower() != "bearer" or not key:
                raise error("missing_key", "Send your API key as `Authorization: Bearer cw_…`.")
            identity = await self._keys.authenticate(key)
            client = request.get("client")
            identity.scope.check_address(client[0] if client else None)
        except AuthError as failure:
            failure.param = "authorization"
            raise
        return identity

    async def identify_manager(self, request: Request) -> Identity:
        """Tell who calls, if that key manages others.

        Raises:
            AuthError: as `identify`; `manage_forbidden`.
            BusyError: `ledger_unavailable`.
        """
        identity = await self.identify(request)
        identity.scope.check_manage()
        return identity


def check_model(identity: Identity, ref: str) -> None:
    """Refuse to tell what it takes to call a model that the key may not call.

    Raises:
        AuthError: `model_forbidden`.
    """
    if not identity.scope.permits_model(ref.partition("@")[0]):
        raise error(
            "model_forbidden", "This API key may not call this model; ask with one that may.", param="model"
        )
