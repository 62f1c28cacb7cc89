"""The values a traced model consists of, and the error for models that have others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from cloakwork_privacy.compiler.network import Activation

__all__ = ["Finish", "Node", "unsupported"]

Finish = Literal["softmax", "binary", "none"]


@dataclass(frozen=True, eq=False)
class Node:
    """One value of the model.

    Attributes:
        name: Unique.
        kind: What made it.
        sources: Names of the values it is made from, in the order of `function`'s arguments.
        shape: Without the batch dimension.
        where: The user's own module it belongs to, in words.
        function: float64 batches (n, *shape of each source) → (n, *shape). It reads the parameters of
            `Trace.module` at each call. Jointly affine, or the activation as the module has it.
        activation: Its name, where it is one.
    """

    name: str
    kind: Literal["input", "linear", "activation"]
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    where: str
    function: Callable[..., torch.Tensor]
    activation: Activation | None = None

    @property
    def size(self) -> int:
        """Numbers in one record's value."""
        return math.prod(self.shape)


def unsupported(fault: str) -> PrivacyError:
    """The error for a model that does not compile, and why."""
    return PrivacyError("model_unsupported", f"This model does not compile: {fault}.")
