"""Writing a trained network for serving: an ONNX graph that holds its weights, and the weights alone."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import nn

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["export"]


class Probabilities(nn.Module):
    """A network of logits, followed by softmax."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        """Map float32 (n, *shape) to probabilities (n, classes)."""
        return torch.softmax(self.network(records), dim=1)


def export(network: nn.Module, shape: tuple[int, ...], folder: Path) -> None:
    """Write `model.onnx` (`input` (batch, *shape) → `output`, probabilities) and `weights.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(save(network.state_dict()))
    program = _trace(Probabilities(network).eval(), shape)
    assert program is not None
    proto = program.model_proto
    # The exporter notes source files and lines on every node: the builder's paths, and bytes nobody reads.
    for part in (
        *proto.graph.node,
        *proto.graph.value_info,
        *proto.graph.input,
        *proto.graph.output,
        proto.graph,
    ):
        del part.metadata_props[:]
    (folder / "model.onnx").write_bytes(proto.SerializeToString(deterministic=True))


def _trace(network: nn.Module, shape: tuple[int, ...]) -> torch.onnx.ONNXProgram | None:
    # Two records: with one, the exporter takes the batch dimension for a constant.
    example = torch.zeros(2, *shape)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Of the exporter's own dependencies; what it wrote is compared with torch by the tests.
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    finally:
        logger.setLevel(level)
