"""From a trained torch module to the programs that run it on ciphertexts.

    trace → fold → (tune) → fit → standardise → prune → normalise → arrange → choose and place scales
    → lower → check

Each step is a module of its own and is judged by means other than its own: folding by running the module,
arranging and lowering by running the circuit in the clear, and the whole by running it encrypted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cloakwork_privacy.ckks import answer
from cloakwork_privacy.compiler import fit as fitting
from cloakwork_privacy.compiler.calibrate import calibrate, checked
from cloakwork_privacy.compiler.check import SIGMAS, check
from cloakwork_privacy.compiler.cost import FRESH, milliseconds
from cloakwork_privacy.compiler.fold import fold, simplify
from cloakwork_privacy.compiler.linear import LARGEST, linear
from cloakwork_privacy.compiler.lower import Interface, lower
from cloakwork_privacy.compiler.network import Affine, Network, Polynomial
from cloakwork_privacy.compiler.normalise import normalise
from cloakwork_privacy.compiler.plan import plan
from cloakwork_privacy.compiler.prune import prune
from cloakwork_privacy.compiler.report import Layer, ProgramReport, Report
from cloakwork_privacy.compiler.standardise import standardise
from cloakwork_privacy.compiler.trace import trace
from cloakwork_privacy.compiler.tune import tune
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray
    from torch import nn

    from cloakwork_privacy.compiler.plan import Purpose
    from cloakwork_privacy.compiler.program import Program
    from cloakwork_privacy.compiler.signature import Finish

__all__ = ["Compiled", "compile"]

_TOLERANCE: Final = 0.05
_REGRESSION_TOLERANCE: Final = 0.002  # of the largest output
_MOST_RECORDS: Final = 4096
_SMALLEST: Final = 1e-9
_REPORT: Final = "report.json"


@dataclass(frozen=True)
class Compiled:
    """A model's programs.

    Attributes:
        programs: "latency" takes one record in a ciphertext; "throughput", where asked for, one record in
            each slot.
        report: What is known of them.
    """

    programs: dict[Purpose, Program]
    report: Report

    def save(self, folder: str | Path) -> None:
        """Writes each program to a folder of its name, and the report beside them."""
        folder = Path(folder)
        for purpose, program in self.programs.items():
            program.save(folder / purpose)
        (folder / _REPORT).write_bytes(self.report.to_json())


def compile(  # noqa: A001 - what it does
    module: nn.Module,
    calibration: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    finish: Finish | None = None,
    degree: int = 3,
    margin: float = 0.1,
    tune_epochs: int = 0,
    tolerance: float | None = None,
    max_records: int = 64,
    throughput: bool = True,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Compiled:
    """Compiles a module.

    Args:
        module: Trained; it is not changed. See `trace` for what it may consist of.
        calibration: (n, *input_shape) of real records such as those it will meet: activations become
            polynomials that are right on the range these cause. A few hundred do.
        labels: (n,) true classes of them, for accuracies in the report.
        finish: What clients make of the logits: "softmax", "binary" or "none"; else what the module ends in.
        degree: Of the polynomials, 1 to 15. Two costs least; three suffices for most; seven loses nothing.
        margin: By which share the calibrated ranges are widened.
        tune_epochs: How long to train a copy of the module with its polynomials in place, by distillation
            from itself; 0 leaves the weights as they are.
        tolerance: Largest error of a logit by encryption; by default 0.05, or for "none" 0.002 of the largest
            output.
        max_records: Most records in one latency request.
        throughput: Whether to make the second program, where the model allows one.
        seed: Of tuning and sampling.
        progress: Told what is being done.

    Raises:
        PrivacyError: `model_unsupported`, with what to use instead; `wrong_dtype`, `wrong_shape`,
            `not_finite` of the calibration; `degree_invalid`, `margin_invalid`, `options_invalid`,
            `out_of_range`.
    """
    given = np.asarray(calibration)
    _check_options(finish, tolerance, max_records)
    progress("trace")
    few = checked(given, given.shape[1:])[:2].reshape(-1, *given.shape[1:])
    traced = trace(module, few)
    records = checked(given, traced.nodes[0].shape)
    largest = float(np.abs(records).max())
    if not _SMALLEST < largest < 1 / _SMALLEST:
        raise PrivacyError(
            "out_of_range",
            "The calibration records are all zero, or of a size that no scale suits; pass real records, in "
            f"units that keep the largest number between {_SMALLEST:g} and {1 / _SMALLEST:g}.",
        )
    exact = fold(traced)
    source = exact
    if tune_epochs:
        progress("tune")
        tuned = tune(
            module,
            given,
            degree=degree,
            epochs=tune_epochs,
            seed=seed,
            margin=margin,
            classifier=(finish or traced.finish) != "none",
        )
        source = fold(trace(tuned, few))
    progress("fit")
    fitted = fitting.fit(source, records, degree, margin)
    network, decided = _binary(simplify(fitted), finish or traced.finish)
    model = _Model(network, records, traced.nodes[0].shape, decided, tolerance)
    programs: dict[Purpose, Program] = {}
    reports: dict[str, ProgramReport] = {}
    purposes: tuple[Purpose, ...] = ("latency", "throughput") if throughput else ("latency",)
    for purpose in purposes:
        progress(purpose)
        try:
            programs[purpose], reports[purpose] = model.program(purpose, max_records)
        except PrivacyError as refusal:
            # One record at a time is what every model must do; many at once is for those it pays for.
            if purpose == "latency" or refusal.code != "model_unsupported":
                raise
    before, after = _binary(exact, finish or traced.finish)[0](records), model.outputs
    decisions = decided != "none"
    return Compiled(
        programs,
        Report(
            inputs=exact.inputs,
            outputs=after.shape[1],
            layers=_layers(source, fitted, records),
            approximation_error=float(np.abs(before - after).max()),
            agreement=_share(before, _decided(after)) if decisions else None,
            float_accuracy=_share(before, labels) if decisions and labels is not None else None,
            accuracy=_share(after, labels) if decisions and labels is not None else None,
            programs=reports,
            batch_from=_batch_from(reports),
        ),
    )


def _check_options(finish: str | None, tolerance: float | None, max_records: int) -> None:
    """Refuses what makes no program (code `options_invalid`)."""
    if finish not in {None, "softmax", "binary", "none"}:
        fault = 'finish is "softmax", "binary" or "none"'
    elif tolerance is not None and not 0 < tolerance < math.inf:
        fault = "the tolerance is a number above 0"
    elif not 1 <= max_records <= _MOST_RECORDS:
        fault = f"max_records is from 1 to {_MOST_RECORDS}"
    else:
        return
    raise PrivacyError("options_invalid", f"Cannot compile: {fault}.")


def _binary(network: Network, finish: Finish) -> tuple[Network, Finish]:
    """Softmax of two logits is the sigmoid of their difference: one logit less to compute.

    That of one would always be 1, so its sigmoid is meant.
    """
    if finish != "softmax" or len(network.output.bias) > 2:  # noqa: PLR2004 - as said
        return network, finish
    if len(network.output.bias) == 1:
        return network, "binary"
    terms = {source: matrix[1:] - matrix[:1] for source, matrix in network.output.terms.items()}
    bias = network.output.bias
    return Network(network.inputs, network.stages, Affine(terms, bias[1:] - bias[:1])), "binary"


class _Model:
    """A network of polynomials, its calibration, and what every program of it shares."""

    def __init__(
        self,
        network: Network,
        records: NDArray[np.float64],
        shape: tuple[int, ...],
        finish: Finish,
        tolerance: float | None,
    ) -> None:
        self.outputs = network(records)
        self._given = records.reshape(-1, *shape)
        standardised, standard = standardise(network, records)
        pruned, features = prune(standardised, standard(records))
        self._records = standard(records)[:, features]
        self._network = normalise(pruned, self._records)
        largest = float(np.abs(self.outputs).max())
        if tolerance is None:
            tolerance = max(_REGRESSION_TOLERANCE * largest, 1e-6) if finish == "none" else _TOLERANCE
        self._tolerance = tolerance
        self._interface = Interface(
            input_shape=shape,
            standard=standard,
            features=tuple(features.tolist()),
            outputs=self.outputs.shape[1],
            finish=finish,
        )

    def program(self, purpose: Purpose, max_records: int) -> tuple[Program, ProgramReport]:
        """The program for a purpose, run once."""
        if purpose == "latency" and self._is_linear():
            return self._linear(max_records)
        limit = self._interface.standard.limit
        planned = plan(self._network, self._records, purpose, limit=limit, deviation=self._tolerance / SIGMAS)
        most = planned.reach + self._tolerance
        program = lower(planned.choice, self._interface, answer_limit=most, max_records=max_records)
        return program, check(
            program,
            self._given,
            self.outputs,
            milliseconds=planned.choice.placed.milliseconds,
            deviation=planned.choice.placed.error,
            guaranteed=planned.guaranteed,
        )

    def _is_linear(self) -> bool:
        network = self._network
        features = len(self._interface.standard.shift)
        return not network.stages and len(network.output.bias) == 1 and features <= LARGEST

    def _linear(self, max_records: int) -> tuple[Program, ProgramReport]:
        """One logit and no activation: coefficient packing, without any key."""
        standard, affine = self._interface.standard, self._network.output
        weight = np.zeros_like(standard.shift)
        weight[list(self._interface.features)] = affine.terms[0][0]
        program = linear(
            weight,
            float(affine.bias[0]),
            standard.shift,
            standard.gain,
            limit=standard.limit,
            finish=self._interface.finish,
            max_records=max_records,
        )
        # Of the features' encryption; the weights' rounding is a fourth of it, by their scales.
        noise = FRESH * float(np.linalg.norm(weight)) / program.signature.scale
        predicted = milliseconds("multiply_plain", program.signature.parameters.poly_degree, 1)
        return program, check(
            program,
            self._given,
            self.outputs,
            milliseconds=predicted,
            deviation=math.hypot(noise, answer.deviation(program.signature)),
            guaranteed=True,
        )


def _layers(exact: Network, fitted: Network, records: NDArray[np.float64]) -> tuple[Layer, ...]:
    layers = []
    for before, after, seen in zip(exact.stages, fitted.stages, calibrate(fitted, records), strict=True):
        assert isinstance(after.activation, Polynomial)
        largest, _ = fitting.error(before, after.activation, seen)
        size = len(before.affine.bias)
        degree = after.activation.degree
        low, high = (float(f"{end:.3g}") for end in (seen.low, seen.high))
        layers.append(Layer(size, str(before.activation), degree, low, high, largest))
    return tuple(layers)


def _decided(logits: NDArray[np.float64]) -> NDArray[np.intp]:
    """The class of each row: of the largest logit, or 1 where the only one is positive."""
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).astype(np.intp)
    classes: NDArray[np.intp] = logits.argmax(axis=1)
    return classes


def _share(logits: NDArray[np.float64], classes: ArrayLike) -> float:
    return float((_decided(logits) == np.asarray(classes)).mean())


def _batch_from(reports: dict[str, ProgramReport]) -> int | None:
    """Records from which on a throughput request is the faster way, if it ever is."""
    if "throughput" not in reports:
        return None
    latency, throughput = reports["latency"], reports["throughput"]
    records = int(throughput.predicted_ms / latency.predicted_ms) + 1
    return records if records <= throughput.records else None
