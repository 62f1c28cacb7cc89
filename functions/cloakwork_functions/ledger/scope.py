"""What an API key may do: which models, in which modes, from where, and with how much privacy at least."""

from __future__ import annotations

import ipaddress
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TypeAlias

import msgspec

from cloakwork.errors import CloakworkError, error
from cloakwork.wire import Mode

__all__ = ["Scope"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST_ITEMS = 100


class Scope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a key may do. Members that this version does not know are refused: they could be restrictions.

    Attributes:
        models: names of models, as shell patterns.
        modes: privacy modes.
        manage: whether it may make, list, rotate and revoke keys of its account.
        run: whether it may run models.
        floor: the least privacy it may be used with, whatever `modes` says.
        addresses: networks it may be used from, such as 203.0.113.0/24 or 2001:db8::/32; none for any.

    Raises:
        InputError: `scope_invalid`.
    """

    models: tuple[str, ...] = ("*",)
    modes: tuple[Mode, ...] = tuple(Mode)
    manage: bool = False
    run: bool = True
    floor: Mode = Mode.PLAINTEXT
    addresses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.run or self.manage):
            raise _invalid("it permits neither to run models nor to manage keys", "scope")
        if not (0 < len(self.models) <= MOST_ITEMS and all(self.models)):
            raise _invalid(f"name 1 to {MOST_ITEMS} models or patterns, or * for all", "models")
        if not any(mode.meets(self.floor) for mode in self.modes):
            raise _invalid("its privacy floor leaves none of its modes", "modes")
        if len(self.addresses) > MOST_ITEMS:
            raise _invalid(f"name at most {MOST_ITEMS} networks", "addresses")
        try:
            _networks(self.addresses)
        except ValueError:
            raise _invalid(
                "write networks as 203.0.113.0/24, 198.51.100.7 or 2001:db8::/32, no bits set after them",
                "addresses",
            ) from None

    @staticmethod
    @lru_cache(maxsize=1024)
    def from_json(text: str) -> Scope:
        """Read a stored scope.

        Raises:
            ConfigError: `other_schema`, another version of cloakwork wrote it.
        """
        try:
            return msgspec.json.decode(text, type=Scope)
        except (msgspec.DecodeError, CloakworkError):
            raise error(
                "other_schema",
                "The scope of this API key was written by another version of cloakwork; use that version, or "
                "create the key anew.",
            ) from None

    def to_json(self) -> str:
        """Write it down, every member."""
        return msgspec.json.encode(self).decode()

    def permits_model(self, name: str) -> bool:
        """Tell whether a model of this name, without a version, may be called."""
        return any(fnmatchcase(name, pattern) for pattern in self.models)

    def check(self, model: str, mode: Mode) -> None:
        """Refuse a call that the key may not make; `model` is a name without a version.

        Raises:
            AuthError: `run_forbidden`, `model_forbidden` or `mode_forbidden`.
            PrivacyError: `below_privacy_floor`.
        """
        if not self.run:
            raise error("run_forbidden", "This API key manages keys and runs nothing; call with another key.")
        if not self.permits_model(model):
            raise error(
                "model_forbidden",
                f"This API key may call {', '.join(self.models)} only; call with another key, or have one "
                "created for this model.",
            )
        mode.keep_to(self.floor)
        if mode not in self.modes:
            raise error(
                "mode_forbidden",
                f"This API key may call with privacy {' or '.join(self.modes)} only; do so, or call with "
                "another key.",
                param="privacy",
            )

    def check_address(self, address: str | None) -> None:
        """Refuse a caller whose address is not on the list, or not known although there is one.

        Raises:
            AuthError: `address_forbidden`.
        """
        if self.addresses and not _within(address, _networks(self.addresses)):
            raise error(
                "address_forbidden",
                "This API key may not be used from this address; call from one on its list, or have a key "
                "created that allows it.",
            )

    def check_manage(self) -> None:
        """Refuse a key that does not manage.

        Raises:
            AuthError: `manage_forbidden`.
        """
        if not self.manage:
            raise error(
                "manage_forbidden",
                "This API key may not manage keys; use one made with `cloakwork keys create --manage`.",
            )


@lru_cache(maxsize=1024)
def _networks(addresses: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(address) for address in addresses)


def _within(address: str | None, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped  # a caller over IPv4, as a socket for both reports it
    return any(parsed in network for network in networks)


def _invalid(why: str, param: str) -> CloakworkError:
    return error("scope_invalid", f"No API key can have this scope: {why}.", param=param)
