"""cloakwork: models as a service that never need to see your data.

    from cloakwork import Client

    client = Client()                                  # address and key: see cloakwork.config
    answer = client.run("digits", image, privacy="encrypted")
    answer.output, answer.cost, answer.privacy

Importing this package is cheap: httpx is imported when a client is made, numpy when an array is
met, and the privacy libraries when a mode needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import (
    AuthError,
    BusyError,
    CloakworkError,
    ConfigError,
    DeadlineError,
    InputError,
    NotFoundError,
    PaymentError,
    PrivacyError,
    ReceiptError,
    ServerError,
    TransportError,
)

if TYPE_CHECKING:
    from .client import AsyncClient, Client
    from .flow import Result
    from .modes import PrivacyReport

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AuthError",
    "BusyError",
    "Client",
    "CloakworkError",
    "ConfigError",
    "DeadlineError",
    "InputError",
    "NotFoundError",
    "PaymentError",
    "PrivacyError",
    "PrivacyReport",
    "ReceiptError",
    "Result",
    "ServerError",
    "TransportError",
]

_LAZY = {"AsyncClient": "client", "Client": "client", "PrivacyReport": "modes", "Result": "flow"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'cloakwork' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
