"""Where to call and with which key: arguments, then environment, then the user's profile file.

    CLOAKWORK_BASE_URL   address of the service, or "local:" to run in this process
    CLOAKWORK_API_KEY    the API key
    CLOAKWORK_PROFILE    table of the profile file to read; "default" unless set
    CLOAKWORK_CONFIG     the user's own folder; ~/.config/cloakwork unless set

The folder holds `config.toml`, with `base_url` and `api_key` at its top or in a table named as the profile,
and `keys/`, the user's secret keys for encrypted calls.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from .errors import AuthError, ConfigError, InputError
from .wire import KEY_MARKS, Mode

ADDRESS = r"https?://(\[[0-9A-Fa-f:.]+\]|[^/\s?#:@\[\]]+)(:[0-9]{1,5})?(/[^\s?#]*)?"

__all__ = ["Config", "config_folder", "resolve"]


@dataclass(frozen=True)
class Config:
    """Settled settings. The key does not show in the repr.

    Attributes:
        base_url: where the service is.
        api_key: the API key, or None.
        folder: the user's own folder.
        max_epsilon: most local differential privacy that a record may spend in one call.
    """

    base_url: str
    api_key: str | None = field(repr=False)
    folder: Path
    max_epsilon: float = 4.0

    @property
    def floor(self) -> Mode:
        """The least privacy that the key may be used with, as its text says."""
        mark = (self.api_key or "").partition("_")[0]
        return next((mode for mode, each in KEY_MARKS.items() if each == mark), Mode.PLAINTEXT)


def config_folder() -> Path:
    """Give the folder of the user's own files, whether or not it exists."""
    if explicit := os.environ.get("CLOAKWORK_CONFIG"):
        return Path(explicit)
    root = os.environ.get("XDG_CONFIG_HOME")
    return (Path(root) if root else Path.home() / ".config") / "cloakwork"


def resolve(base_url: str | None = None, api_key: str | None = None, max_epsilon: float = 4.0) -> Config:
    """Settle address and key.

    Raises:
        AuthError: `wrong_key` when the key holds characters that none has.
        ConfigError: `no_address` when none is given anywhere or it is not an http(s) URL;
            `bad_profile` when the profile file cannot be read.
    """
    folder = config_folder()
    profile = _profile(folder / "config.toml")
    address = base_url or os.environ.get("CLOAKWORK_BASE_URL") or profile.get("base_url")
    key = api_key or os.environ.get("CLOAKWORK_API_KEY") or profile.get("api_key")
    if not address:
        raise ConfigError(
            "no_address",
            "No service address. Pass base_url, set CLOAKWORK_BASE_URL, or write base_url in "
            f'{folder / "config.toml"}; "local:" runs models in this process.',
        )
    if address != "local:" and not re.fullmatch(ADDRESS, address):
        raise ConfigError(
            "no_address", 'The service address must start with http:// or https://, or be "local:".'
        )
    if not 0 < max_epsilon < math.inf:
        raise InputError("bad_request", "max_epsilon must be a positive number.", param="max_epsilon")
    if key and not (key.isascii() and key.isprintable()):
        raise AuthError("wrong_key", "The API key holds characters that no key has; copy it again.")
    return Config(address.rstrip("/"), key, folder, max_epsilon)


def _profile(path: Path) -> dict[str, str]:
    name = os.environ.get("CLOAKWORK_PROFILE", "default")
    if not path.is_file():
        return {}
    import tomllib

    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as failure:
        raise ConfigError("bad_profile", f"{path} cannot be read as TOML: {failure}") from None
    profile = document | document.get(name, {})
    known = {key: profile[key] for key in ("base_url", "api_key") if key in profile}
    if not all(isinstance(value, str) for value in known.values()):
        raise ConfigError("bad_profile", f"base_url and api_key in {path} must be strings.")
    return known
