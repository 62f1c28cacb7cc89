"""Which models there are, and how to make one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from cloakwork.wire import Card

__all__ = ["NAMES", "train"]

# Modules are named, not imported: listing the catalogue must not cost torch's seconds.
MODULES = {"digits": "digits", "tumor-risk": "tumor_risk"}
NAMES = tuple(MODULES)


def train(name: str, folder: Path, *, seed: int = 0) -> Card:
    """Train a model of the catalogue on its public records and write its artifact.

    The same seed gives the same artifact, to the bit on one machine, but for what was measured of encrypted
    programs; the noise of the anonymized mode enters through its law, not through draws.

    Args:
        name: one of `NAMES`.
        folder: where the artifact's files go; made if it is missing.
        seed: of the split, the folds, the first weights and the order of records.

    Returns:
        The card, as written to `card.json`.

    Raises:
        KeyError: no model of that name is in the catalogue.
    """
    if name not in MODULES:
        raise KeyError(f"No recipe is called {name!r}; there are {', '.join(NAMES)}.")
    from cloakwork_functions.models.life_cycle import run

    return run(import_module(f"{__package__}.{MODULES[name]}").RECIPE, folder, seed)
