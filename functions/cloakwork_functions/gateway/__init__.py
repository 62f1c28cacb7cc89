"""The HTTP front: who calls, what it costs, which model runs, what comes back."""

from .app import create_app

__all__ = ["create_app"]
