"""From a trace to affine maps with activations between them.

The matrix of an affine map is what it does to the unit vectors: a value is kept as its linear parts, one
image for each unit vector of each source, and its offset. So whatever torch can compute in batches is folded
by torch itself, and there is no formula for any operator here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from cloakwork_privacy.compiler.network import Affine, Network, Polynomial, Stage
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cloakwork_privacy.compiler.trace import Node, Trace

__all__ = ["fold", "simplify"]

_MOST_ENTRIES: Final = 1 << 26
_TOLERANCE: Final = 1e-9


@dataclass(frozen=True, eq=False)
class _Value:
    """offset + sum over sources j of parts_j @ h_j.

    Attributes:
        parts: (size of the source, *shape) by source.
        offset: (1, *shape).
    """

    parts: Mapping[int, torch.Tensor]
    offset: torch.Tensor

    def affine(self) -> Affine:
        """As matrices on flattened values, without the ones that are all zero."""
        return Affine(
            {
                source: np.ascontiguousarray(part.reshape(len(part), -1).numpy().T)
                for source, part in self.parts.items()
                if bool(part.any())
            },
            self.offset.reshape(-1).numpy().copy(),
        )


def fold(trace: Trace) -> Network:
    """Composes everything between activations into affine maps.

    Args:
        trace: Of a module.

    Returns:
        The network; on the trace's example it equals the traced model to 1e-9 of the largest logit. (A GELU
        approximated by tanh counts as the exact one.) Stages that reach no logit are left out.

    Raises:
        PrivacyError: `model_unsupported` if a matrix has more than 2^26 entries; `program_invalid` if the
            network and the traced model differ.
    """
    stages: list[Stage] = []
    sizes = [trace.nodes[0].size]
    values: dict[str, _Value] = {}
    with torch.no_grad():
        for index, node in enumerate(trace.nodes):
            operands = [values[name] for name in node.sources]
            if node.kind == "linear":
                values[node.name] = _mapped(node, operands, sizes)
            else:
                if node.activation is not None:
                    stages.append(Stage(operands[0].affine(), node.activation))
                    sizes.append(node.size)
                values[node.name] = _source(node, len(stages))
            later = {name for other in trace.nodes[index + 1 :] for name in other.sources} | {trace.output}
            values = {name: value for name, value in values.items() if name in later}
    network = _used(Network(sizes[0], tuple(stages), values[trace.output].affine()))
    _check(network, trace)
    return network


def simplify(network: Network) -> Network:
    """Composes stages whose polynomial has degree 0 or 1 into the affine maps that read them.

    Returns:
        The same function in fewer stages, none of which is affine; stages without effect are left out.

    Raises:
        PrivacyError: `model_unsupported` if a matrix has more than 2^26 entries.
    """
    for index, stage in enumerate(network.stages, start=1):
        if isinstance(stage.activation, Polynomial) and stage.activation.degree <= 1:
            constant, slope = (*stage.activation.coefficients, 0.0)[:2]
            value = Affine(
                {source: slope * matrix for source, matrix in stage.affine.terms.items()},
                constant + slope * stage.affine.bias,
            )
            sizes = _sizes(network)
            stages = tuple(
                Stage(_substituted(other.affine, index, value, sizes), other.activation)
                for other in network.stages
            )
            return simplify(
                _used(Network(network.inputs, stages, _substituted(network.output, index, value, sizes)))
            )
    return _used(network)


def _source(node: Node, index: int) -> _Value:
    """An input or activation as a value: the unit vectors, and no offset."""
    _check_size(node.size, node.size, node.where)
    unit = torch.eye(node.size, dtype=torch.float64).reshape(node.size, *node.shape)
    return _Value({index: unit}, torch.zeros(1, *node.shape, dtype=torch.float64))


def _mapped(node: Node, operands: Sequence[_Value], sizes: Sequence[int]) -> _Value:
    """An affine operator applied: its linear part to parts, all of it to offsets."""
    nothing = [torch.zeros_like(operand.offset) for operand in operands]
    zero = node.function(*nothing)
    parts = {}
    for source in sorted({source for operand in operands for source in operand.parts}):
        _check_size(node.size, sizes[source], node.where)
        images = [
            operand.parts.get(source, empty.expand(sizes[source], *empty.shape[1:]))
            for operand, empty in zip(operands, nothing, strict=True)
        ]
        parts[source] = node.function(*images) - zero
    return _Value(parts, node.function(*(operand.offset for operand in operands)))


def _check_size(rows: int, columns: int, where: str) -> None:
    if rows * columns > _MOST_ENTRIES:
        raise PrivacyError(
            "model_unsupported",
            f"This model does not compile: from one activation to {where} the matrix is {rows} x {columns}, "
            "and 2^26 entries is the most; use fewer channels, larger strides or smaller inputs.",
        )


def _check(network: Network, trace: Trace) -> None:
    """Refuses a network that differs from the trace."""

    def activate(node: Node, values: torch.Tensor) -> torch.Tensor:
        assert node.activation is not None
        return torch.from_numpy(Stage(Affine({}, np.zeros(0)), node.activation).activate(values.numpy()))

    with torch.no_grad():
        expected = trace.run(torch.from_numpy(trace.example), activate).numpy()
    found = network(trace.example.reshape(len(trace.example), -1))
    scale = float(np.abs(expected).max()) or 1.0
    if found.shape != expected.shape or not (np.abs(found - expected) <= _TOLERANCE * scale).all():
        raise PrivacyError(
            "program_invalid",
            "The folded network and the model differ on the example, by more than rounding; "
            "report the model's layers, and leave out the last one you added.",
        )


def _used(network: Network) -> Network:
    """The network without stages that reach no logit."""
    used = set(network.output.terms)
    for index in range(len(network.stages), 0, -1):
        if index in used:
            used.update(network.stages[index - 1].affine.terms)
    kept = sorted(used - {0})
    place = {0: 0, **{old: new for new, old in enumerate(kept, start=1)}}

    def moved(affine: Affine) -> Affine:
        return Affine({place[source]: matrix for source, matrix in affine.terms.items()}, affine.bias)

    stages = (network.stages[index - 1] for index in kept)
    return Network(
        network.inputs,
        tuple(Stage(moved(stage.affine), stage.activation) for stage in stages),
        moved(network.output),
    )


def _sizes(network: Network) -> list[int]:
    return [network.inputs, *(len(stage.affine.bias) for stage in network.stages)]


def _substituted(affine: Affine, index: int, value: Affine, sizes: Sequence[int]) -> Affine:
    """The map with the index-th stage's value replaced by an affine map of earlier ones."""
    if index not in affine.terms:
        return affine
    matrix = affine.terms[index]
    terms = {source: term for source, term in affine.terms.items() if source != index}
    for source, term in value.terms.items():
        _check_size(len(affine.bias), sizes[source], "a later one")
        terms[source] = terms.get(source, 0.0) + matrix @ term
    terms = {source: term for source, term in terms.items() if term.any()}
    return Affine(terms, affine.bias + matrix @ value.bias)
