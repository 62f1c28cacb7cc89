"""Where models run: one protocol, and the engine that runs it in local worker processes."""

from .local import LocalRuntime
from .protocol import Call, Computed, Runtime

__all__ = ["Call", "Computed", "LocalRuntime", "Runtime"]
