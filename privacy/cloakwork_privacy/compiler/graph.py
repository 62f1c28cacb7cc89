"""Walks an exported graph: every operator is affine, an activation, or refused by name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import fx, nn
from torch.export.graph_signature import InputKind, OutputKind

from cloakwork_privacy.compiler.node import Node, unsupported
from cloakwork_privacy.compiler.operators import (
    ACTIVATED,
    ADVICE,
    ANY,
    DEFAULT_ADVICE,
    FIRST,
    ONE,
    RESHAPED,
    SAME,
    SEVERAL,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.export import ExportedProgram

    from cloakwork_privacy.compiler.network import Activation
    from cloakwork_privacy.compiler.node import Finish

__all__ = ["Peeled", "Walk"]


class Peeled(NamedTuple):
    """A graph without its last softmax or sigmoid.

    Attributes:
        logits: What comes before it.
        finish: What the client does instead.
        restore: Logits → what the module returns, of any shape.
    """

    logits: fx.Node
    finish: Finish
    restore: Callable[[torch.Tensor], torch.Tensor]


class Walk:
    """Reads one exported program."""

    def __init__(self, program: ExportedProgram, module: nn.Module) -> None:
        """Takes parameters and buffers from `module`, so that training it is seen.

        Raises:
            PrivacyError: `model_unsupported`: the model changes its own buffers.
        """
        if any(spec.kind is OutputKind.BUFFER_MUTATION for spec in program.graph_signature.output_specs):
            raise unsupported("it changes its own buffers as it runs; make them constant in evaluation mode")
        state = {
            **dict(module.named_parameters(remove_duplicate=False)),
            **dict(module.named_buffers(remove_duplicate=False)),
            **program.constants,
        }
        self._tensors: dict[str, Any] = {}
        for spec in program.graph_signature.input_specs:
            name = getattr(spec.arg, "name", "")
            if spec.kind is InputKind.USER_INPUT:
                input_name = name
            else:
                self._tensors[name] = state[str(spec.target)]
        self._graph = program.graph
        self._input = next(node for node in self._graph.nodes if node.name == input_name)
        self._batch = self._input.meta["val"].shape[0]
        self._depends = self._dependences()

    def peel(self) -> Peeled:
        """Sets aside a softmax or sigmoid at the very end."""
        last = next(node for node in self._graph.nodes if node.op == "output").args[0][-1]
        final = last
        while _name(final) in SAME | (RESHAPED - {"expand"}):
            final = final.args[0]
        before = final.args[0].meta["val"] if final.args and isinstance(final.args[0], fx.Node) else None
        if before is not None and _name(final) in ("softmax", "log_softmax"):
            if before.ndim == 2 and final.args[1] in (1, -1):  # noqa: PLR2004 - (n, k)
                return Peeled(final.args[0], "softmax", lambda logits: final.target(logits, -1))
        elif before is not None and _name(final) == "sigmoid" and all(size == 1 for size in before.shape[1:]):
            return Peeled(final.args[0], "binary", torch.sigmoid)
        return Peeled(last, "none", lambda logits: logits)

    def nodes(self, logits: fx.Node) -> tuple[Node, ...]:
        """Everything that contributes to the logits, in order; the input first, the logits' name last.

        Raises:
            PrivacyError: `model_unsupported`.
        """
        if self._depends.get(logits) != "input":
            raise unsupported("its output does not depend on its input")
        reached, waiting = set(), [logits]
        while waiting:
            node = waiting.pop()
            if node not in reached:
                reached.add(node)
                waiting.extend(node.all_input_nodes)
        made: dict[str, Node] = {}
        for node in self._graph.nodes:
            several = _name(node) in SEVERAL and isinstance(node.meta.get("val"), (tuple, list))
            if node in reached and self._depends[node] == "input" and not several:
                self._check(node, made)
                if self.source(node) is node:
                    made[node.name] = self._node(node, made)
        return _used(made, self._input.name, self.source(logits).name)

    def source(self, node: fx.Node) -> fx.Node:
        """The node without operators that return their operand."""
        while _name(node) in SAME and self._depends[node] == "input":
            node = node.args[0]  # type: ignore[assignment]  # their first operand is a value
        return node

    def _dependences(self) -> dict[fx.Node, Literal["constant", "count", "input"]]:
        """What each value depends on: nothing, the number of records alone, or the input itself."""
        found: dict[fx.Node, Literal["constant", "count", "input"]] = {}
        for node in self._graph.nodes:
            of = {found[other] for other in node.all_input_nodes}
            if node is self._input:
                found[node] = "input"
            elif _name(node) == "sym_size" or of <= {"constant", "count"}:
                found[node] = "count" if of - {"constant"} else "constant"
            else:
                found[node] = "input"
        return found

    def _node(self, node: fx.Node, made: dict[str, Node]) -> Node:
        name, val = _name(node), node.meta["val"]
        shape = tuple(map(int, val.shape[1:]))
        if node is self._input:
            return Node(node.name, "input", (), shape, "the input", torch.clone)
        activation, of = self._activation(node, made)
        if activation is not None:
            call = self._call(node, [of])
            return Node(node.name, "activation", (of.name,), shape, _where(node), call, activation)
        if name in RESHAPED:
            reshape = _expansion(shape) if name == "expand" else _reshaping(shape)
            return Node(node.name, "linear", (of.name,), shape, _where(node), reshape)
        sources = list(dict.fromkeys(self._operands(_whole(node))))
        call = self._call(node, sources)
        names = tuple(source.name for source in sources)
        return Node(node.name, "linear", names, shape, _where(node), call)

    def _activation(self, node: fx.Node, made: dict[str, Node]) -> tuple[Activation | None, fx.Node]:
        """The activation that a node is, if any, and its operand: also of x ** 2, x * x, x * sigmoid(x)."""
        operands = [self.source(arg) for arg in node.args if isinstance(arg, fx.Node)]
        name = _name(node)
        if name in ACTIVATED:
            return ACTIVATED[name], operands[0]
        if name == "pow" and node.args[1] == 2:  # noqa: PLR2004 - the square
            return "square", operands[0]
        if name == "mul" and len(operands) == 2:  # noqa: PLR2004 - both are values
            for one, other in (operands, operands[::-1]):
                if one is other:
                    return "square", one
                factor = made.get(other.name)
                if factor is not None and factor.activation == "sigmoid" and factor.sources == (one.name,):
                    return "silu", one
        return None, operands[0] if operands else node

    def _call(self, node: fx.Node, sources: list[fx.Node]) -> Callable[..., torch.Tensor]:
        """The node's operator as a function of its sources' values."""

        def call(*values: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self._value(node, dict(zip(sources, values, strict=True)))
            return result

        return call

    def _value(self, node: fx.Node, given: dict[fx.Node, torch.Tensor]) -> Any:
        """Computes a node from given values and constants."""
        if node.op == "placeholder":
            return self._tensors[node.name]

        def operand(other: fx.Node) -> Any:
            source = self.source(other)
            return given[source] if source in given else self._value(other, given)

        args, kwargs = fx.map_arg((node.args, node.kwargs), operand)
        return node.target(*args, **kwargs)  # type: ignore[operator]  # call_function's target is callable

    def _operands(self, node: fx.Node) -> list[fx.Node]:
        """Its operands that depend on the input, as often as they occur."""
        found: list[fx.Node] = []
        fx.map_arg((node.args, node.kwargs), found.append)
        return [self.source(other) for other in found if self._depends[other] == "input"]

    def _check(self, node: fx.Node, made: dict[str, Node]) -> None:
        """Refuses an operator that is neither affine nor an activation here."""
        if node is self._input:
            return
        at = _whole(node)
        refused = self._refused(at, made)
        val = node.meta["val"]
        if refused is None and not (isinstance(val, torch.Tensor) and val.dtype == torch.float64):
            refused = "_to_copy"
        if refused is not None:
            advice = ADVICE.get(refused, DEFAULT_ADVICE)
            raise unsupported(f"{_where(at)} computes {_name(at)}: {advice}")
        sizes = val.shape[1:]
        if not val.ndim or val.shape[0] != self._batch or not all(type(size) is int for size in sizes):
            if "MultiheadAttention" in _where(at):  # It swaps batch and positions before anything else.
                raise unsupported(f"{_where(at)}: {ADVICE['softmax']}")
            raise unsupported(
                f"{_where(at)} computes {_name(at)} across the batch dimension: keep the records of a batch "
                "apart, with the batch as the first dimension of every value"
            )
        self._check_constants(at)

    def _refused(self, node: fx.Node, made: dict[str, Node]) -> str | None:
        """Under which name to look for advice, if it is refused."""
        name, operands = _name(node), self._operands(node)
        leading = node.args[0] if node.args else None
        first = isinstance(leading, fx.Node) and self._depends[leading] == "input"
        if name in RESHAPED:
            return None if first else "sym_size"
        if self._activation(node, made)[0] is not None:
            return None
        accepted = (
            name in SAME | ANY
            or (name in FIRST and first and len(operands) == 1)
            or (name in ONE and len(operands) == 1)
        )
        if accepted and any(self._depends[other] == "count" for other in node.all_input_nodes):
            return "sym_size"
        if not accepted and name in FIRST and name not in ADVICE:
            return "mul"
        return None if accepted else name

    def _check_constants(self, node: fx.Node) -> None:
        constants: list[Any] = []
        others = [other for other in node.all_input_nodes if self._depends[other] == "constant"]
        with torch.no_grad():
            constants.extend(self._value(other, {}) for other in others)
        numbers = [number for number in node.args if isinstance(number, float)]
        tensors = [constant for constant in constants if isinstance(constant, torch.Tensor)]
        if not all(map(math.isfinite, numbers)) or not all(bool(t.isfinite().all()) for t in tensors):
            raise unsupported(f"{_where(node)} has weights that are NaN or infinite; train it again")


def _name(node: fx.Node) -> str:
    """The operator without library, overload and in-place mark."""
    schema = getattr(node.target, "_schema", None)
    if schema is not None:
        return str(schema.name).rpartition("::")[2]
    return getattr(node.target, "__name__", node.op)


def _whole(node: fx.Node) -> fx.Node:
    """The operator whose tuple this is an element of, or the node itself."""
    if _name(node) != "getitem":
        return node
    of = node.args[0]
    assert isinstance(of, fx.Node)
    return of


def _where(node: fx.Node) -> str:
    """The user's own module that a node comes from, in words."""
    stack = [entry for entry in node.meta.get("nn_module_stack", {}).values() if "." in entry[1]]
    if not stack:
        return "the module"
    path, kind = stack[-1]
    kind = kind.rpartition(".")[2]
    return f"layer {path} ({kind})" if path else kind


def _reshaping(shape: tuple[int, ...]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda value: value.reshape(len(value), *shape)


def _expansion(shape: tuple[int, ...]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda value: value.expand(len(value), *shape)


def _used(made: dict[str, Node], first: str, last: str) -> tuple[Node, ...]:
    """What contributes to the last value, and the input."""
    used = {first, last}
    for node in reversed(made.values()):
        if node.name in used:
            used.update(node.sources)
    return tuple(node for node in made.values() if node.name in used)
