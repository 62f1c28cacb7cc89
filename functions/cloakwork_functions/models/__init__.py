"""The catalogue of models: recipes that turn public records into artifacts.

This is the one package that trains. It needs the `train` extra; nothing that serves imports it.
"""

from __future__ import annotations

from cloakwork_functions.models.catalogue import NAMES, train

__all__ = ["NAMES", "train"]
