"""From a model's weights to a program: the two shapes of model we compile by hand."""

from __future__ import annotations

from cloakwork_privacy.compiler.convolution import conv_square_dense
from cloakwork_privacy.compiler.linear import linear

__all__ = ["conv_square_dense", "linear"]
