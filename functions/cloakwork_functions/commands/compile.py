"""`cloakwork compile`: make an artifact of a model of one's own, and report on its encrypted programs."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from cloakwork_privacy.compiler.report import ProgramReport, Report

__all__ = ["HELP", "configure", "run"]

HELP = "compile a trained model of your own for encrypted records"


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    parser.add_argument("file", type=Path, help="Python file that sets MODEL, a cloakwork_functions Model")
    parser.add_argument("--out", type=Path, required=True, help="write the artifact to this folder")
    parser.add_argument(
        "--degree", type=int, default=3, help="of the polynomials in place of activations (default: 3)"
    )
    parser.add_argument(
        "--tune", type=int, default=0, metavar="EPOCHS", help="train on with polynomials (default: 0)"
    )
    parser.add_argument("--tolerance", type=float, help="largest error of a logit (default: 0.05)")


def run(arguments: Namespace) -> int:
    """Do it."""
    from cloakwork_functions.models.own import Model, build

    model = runpy.run_path(str(arguments.file)).get("MODEL") if arguments.file.is_file() else None
    if not isinstance(model, Model):
        Console(stderr=True).print(
            f"{arguments.file} is no Python file that sets MODEL to a cloakwork_functions.models.own.Model."
        )
        return 1
    with Console(stderr=True).status("compile") as status:
        try:
            card, report = build(
                model,
                arguments.out,
                degree=arguments.degree,
                tune_epochs=arguments.tune,
                tolerance=arguments.tolerance,
                progress=lambda doing: status.update(f"compile: {doing}"),
            )
        except PrivacyError as refusal:
            Console(stderr=True).print(f"Not compiled: {refusal}", soft_wrap=True)
            return 1
    Console().print(*_tables(report))
    Console().print(f"Wrote {card.name} to {arguments.out}; cloakwork publish {arguments.out}")
    return 0


def _tables(report: Report) -> tuple[Table, Table, str]:
    layers = Table("layer", "size", "activation", "degree", "range", "largest error")
    for index, layer in enumerate(report.layers, 1):
        bounds = f"{layer.low:.3g} to {layer.high:.3g}"
        layers.add_row(
            str(index), str(layer.size), layer.activation, str(layer.degree), bounds, f"{layer.error:.2g}"
        )
    programs = Table("", *report.programs)
    columns = [_column(program) for program in report.programs.values()]
    for name in columns[0]:
        programs.add_row(name, *(column[name] for column in columns))
    shares = {
        "agrees with the module on": report.agreement,
        "accuracy of the module": report.float_accuracy,
        "of its polynomials": report.accuracy,
    }
    words = [f"{name} {share:.1%}" for name, share in shares.items() if share is not None]
    batch = f" The throughput program pays from {report.batch_from} records." if report.batch_from else ""
    return layers, programs, f"On calibration records: {', '.join(words)}.{batch}"


def _column(program: ProgramReport) -> dict[str, str]:
    operations = ", ".join(f"{count} {name}" for name, count in program.operations.items())
    return {
        "records in a request": f"{program.records}",
        "parameters": f"N = {program.poly_degree}, {list(program.modulus_bits)} bits",
        "depth": f"{program.depth}",
        "operations": operations,
        "server, predicted": f"{program.predicted_ms:.3g} ms",
        "server, measured": f"{program.measured_ms:.3g} ms",
        "keys": f"{program.key_bytes / 1e3:,.0f} kB",
        "up": f"{program.request_bytes / 1e3:,.0f} kB",
        "down": f"{program.answer_bytes / 1e3:,.0f} kB",
        "error, predicted": f"{program.predicted_error:.2g}",
        "error, measured": f"{program.measured_error:.2g}",
        "inputs that cannot overflow": "all within bounds" if program.guaranteed else "like calibration's",
    }
