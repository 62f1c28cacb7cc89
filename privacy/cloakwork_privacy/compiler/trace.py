"""From a torch module to a list of affine operators and activations, checked against the module."""

from __future__ import annotations

import copy
import inspect
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn

from cloakwork_privacy.compiler.graph import Walk
from cloakwork_privacy.compiler.node import Node, unsupported
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch.export import ExportedProgram

    from cloakwork_privacy.compiler.node import Finish

__all__ = ["Node", "Trace", "trace"]

_TOLERANCE: Final = 1e-9
_PROBES: Final = 3


@dataclass(frozen=True, eq=False)
class Trace:
    """A module as a list of values, each computed from earlier ones.

    Attributes:
        module: A float64 copy in evaluation mode; the functions of the nodes read its parameters.
        nodes: In order; the first is the input. All contribute to the output.
        output: Name of the logits.
        finish: What the client does with the logits.
        example: float64 of (n, *input shape).
    """

    module: nn.Module
    nodes: tuple[Node, ...]
    output: str
    finish: Finish
    example: NDArray[np.float64]

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return next(node.size for node in self.nodes if node.name == self.output)

    def run(
        self, batch: torch.Tensor, activate: Callable[[Node, torch.Tensor], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """The logits.

        Args:
            batch: (n, *input shape).
            activate: Computes the activations, where it is not what the module has.

        Returns:
            (n, outputs), differentiable in the parameters of `module`.
        """
        values = {self.nodes[0].name: batch}
        for node in self.nodes[1:]:
            sources = [values[name] for name in node.sources]
            if node.kind == "activation" and activate is not None:
                values[node.name] = activate(node, *sources)
            else:
                values[node.name] = node.function(*sources)
        return values[self.output].reshape(len(batch), -1)


def trace(module: nn.Module, example: NDArray[Any]) -> Trace:
    """Writes a module down as affine operators and activations.

    `torch.export` writes the module as a graph of ATen operators without in-place ones.

    Args:
        module: A classifier or regressor of one input. It is copied, not changed.
        example: (n, *input shape) of floating point, n >= 1: records it is checked on.

    Returns:
        The trace; on the example it equals the module in float64.

    Raises:
        PrivacyError: `model_unsupported`, naming the operator, the layer and what to use instead;
            `program_invalid` if the trace and the module differ.
    """
    _check_interface(module, example)
    records = torch.tensor(np.asarray(example, np.float64))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        own = _copied(module)
        returned = _returned(own, records)
        walk = Walk(_exported(own, records.shape[1:]), own)
        peeled = walk.peel()
        nodes = walk.nodes(peeled.logits)
        expected = _flattened(returned, len(records))
        output = walk.source(peeled.logits).name
        traced = Trace(own, nodes, output, peeled.finish, records.numpy())
        _check_separate(traced)
        found = peeled.restore(traced.run(records)).reshape(len(records), -1)
    if not torch.allclose(found, expected, rtol=0.0, atol=_TOLERANCE * (float(expected.abs().max()) or 1.0)):
        raise PrivacyError(
            "program_invalid",
            "The traced model and the module differ on the example; a module must be deterministic in "
            "evaluation mode, and depend on nothing but its input.",
        )
    return traced


def _check_interface(module: nn.Module, example: NDArray[Any]) -> None:
    if example.dtype.kind != "f":
        raise unsupported(
            f"its example is of {example.dtype}, and only models of floating-point input compile; "
            "convert it, and one-hot encode categories"
        )
    if example.ndim < 2 or not example.size:  # noqa: PLR2004 - records have at least one dimension
        raise unsupported(f"the example has the shape {example.shape}; pass (n, *input shape), n >= 1")
    if not np.isfinite(example).all():
        raise unsupported("its example holds NaN or infinity; pass finite records")
    needed = [
        parameter
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        raise unsupported(f"it takes {len(needed)} inputs; concatenate them into one")
    if any(not weight.is_floating_point() for weight in module.parameters()):
        raise unsupported("its weights are not floating point; use the model before quantisation")


def _copied(module: nn.Module) -> nn.Module:
    try:
        own = copy.deepcopy(module).to("cpu", torch.float64).eval()
    except Exception as error:
        fault = f"it cannot be copied ({type(error).__name__}); detach the tensors that it keeps"
        raise unsupported(fault) from error
    return own.requires_grad_()


def _returned(module: nn.Module, records: torch.Tensor) -> torch.Tensor:
    """What the module itself computes."""
    try:
        returned = module(records.clone())
    except Exception as error:
        fault = (
            f"it fails on the example of shape {tuple(records.shape)} in float64 ({type(error).__name__}); "
            "the shape may not fit, or values are made in a type other than the input's"
        )
        raise unsupported(fault) from error
    if not isinstance(returned, torch.Tensor):
        raise unsupported(f"it returns a {type(returned).__name__}; return one tensor of logits, (n, k)")
    return returned


def _flattened(returned: torch.Tensor, records: int) -> torch.Tensor:
    if returned.shape[:1] != (records,) or sum(size > 1 for size in returned.shape[1:]) > 1:
        raise unsupported(f"it returns the shape {tuple(returned.shape)}; return logits (n, k), flattened")
    if not returned.isfinite().all():
        raise unsupported("it returns NaN or infinity on the example; are its weights finite?")
    return returned.reshape(records, -1)


def _exported(module: nn.Module, shape: tuple[int, ...]) -> ExportedProgram:
    """The module's graph of functional ATen operators, for any number of records."""
    with warnings.catch_warnings():
        # Of attributes that recurrent layers keep, and of torch's own deprecations.
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(
                module,
                (torch.zeros(_PROBES, *shape, dtype=torch.float64),),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
            functional: ExportedProgram = program.run_decompositions({})
        except Exception as error:
            fault = (
                f"torch.export cannot write it down ({type(error).__name__}); what it computes must not "
                "depend on the values or the number of records: no if, while or item() on tensors"
            )
            raise unsupported(fault) from error
    return functional


def _check_separate(traced: Trace) -> None:
    """Refuses a model in which one record's answer depends on its neighbours."""
    batch = torch.tensor(np.random.default_rng(0).normal(size=(_PROBES, *traced.example.shape[1:])))
    together = traced.run(batch)
    apart = torch.cat([traced.run(record) for record in batch[:, None]])
    if not torch.allclose(together, apart, rtol=1e-9, atol=1e-9 * float(apart.abs().max())):
        raise unsupported("its answer on a record depends on the other records of the batch")
