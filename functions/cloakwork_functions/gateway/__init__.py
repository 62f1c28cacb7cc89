"""The HTTP front: who calls, what it costs, which model runs, what comes back."""

from .app import create_app, open_service
from .keystore import KeyLimits

__all__ = ["KeyLimits", "create_app", "open_service"]
