"""Where models run: one protocol, and the engine that runs it in local worker processes."""

from .local import LocalRuntime
from .protocol import Call, Runtime

__all__ = ["Call", "LocalRuntime", "Runtime"]
