"""A trained model's programs, in the clear: they compute what the graph computes, on all the records."""

import json

import numpy as np
import pytest

from cloakwork.wire import Mode
from cloakwork_privacy.compiler import clear
from cloakwork_privacy.compiler.program import Program


@pytest.fixture(params=["latency", "throughput"])
def program(made, request):
    return Program.load(made.folder / "encrypted" / request.param)


def outputs(program, records):
    return program.signature.finished(clear.logits(program, records))


def test_the_circuit_agrees_with_plaintext_on_every_held_out_record(made, program):
    computed, plain = outputs(program, made.held.records), made.run(Mode.PLAINTEXT, made.held.records)
    assert np.array_equal(computed.argmax(axis=1), plain.argmax(axis=1))
    # Five digits are released; the rest is float32 against float64.
    assert computed == pytest.approx(plain, abs=1e-4)


def test_the_card_states_the_circuits_accuracy_and_limits(made, program):
    offer = made.card.modes[Mode.ENCRYPTED]
    said = outputs(program, made.held.records).argmax(axis=1)
    assert offer.accuracy == (said == made.held.labels).mean()
    assert program.signature.max_records in {each.max_records for each in offer.programs.values()}
    assert offer.max_records == max(each.max_records for each in offer.programs.values())


def test_the_card_carries_the_compilers_report(made):
    report = made.card.modes[Mode.ENCRYPTED].report
    assert report == json.loads((made.folder / "encrypted/report.json").read_bytes())
    assert set(report["programs"]) == {"latency", "throughput"}
    for program in report["programs"].values():
        assert 0 < program["measured_error"] <= program["predicted_error"] < 0.1
        assert program["guaranteed"]


def test_the_signature_takes_the_cards_records(made, program):
    assert program.signature.input_shape == made.card.input.shape
    assert program.signature.output_shape == made.card.output.shape
    for each in made.card.modes[Mode.ENCRYPTED].programs.values():
        assert "constants" not in json.loads((made.folder / each.artifact).read_bytes())


def test_every_public_record_fits_the_circuits_range(made, program):
    from cloakwork_functions.models import digits, tumor_risk

    recipe = {"digits": digits, "tumor-risk": tumor_risk}[made.card.name].RECIPE
    for record in recipe.load().records:
        program.signature.prepare(record[None])
