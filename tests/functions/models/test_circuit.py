from __future__ import annotations

import json

import numpy as np
import pytest

from cloakwork.wire import Mode
from cloakwork_functions.models.circuit import outputs
from cloakwork_privacy.compiler.program import Program


@pytest.fixture
def program(made):
    return Program.load(made.folder / "encrypted")


def test_the_circuit_agrees_with_plaintext_on_every_held_out_record(made, program):
    clear, plain = outputs(program, made.held.records), made.run(Mode.PLAINTEXT, made.held.records)
    assert np.array_equal(clear.argmax(axis=1), plain.argmax(axis=1))
    # Five digits are released; the rest is float32 against float64.
    assert clear == pytest.approx(plain, abs=1e-4)


def test_the_card_states_the_circuits_accuracy_and_limits(made, program):
    offer = made.card.modes[Mode.ENCRYPTED]
    said = outputs(program, made.held.records).argmax(axis=1)
    assert offer.accuracy == (said == made.held.labels).mean()
    assert offer.max_records == program.signature.max_records


def test_the_signature_takes_the_cards_records(made, program):
    assert program.signature.input_shape == made.card.input.shape
    assert program.signature.output_shape == made.card.output.shape
    signature = json.loads((made.folder / made.card.modes[Mode.ENCRYPTED].artifact).read_bytes())
    assert "constants" not in signature


def test_every_public_record_fits_the_circuits_range(made, program):
    from cloakwork_functions.models import digits, tumor_risk

    recipe = {"digits": digits, "tumor-risk": tumor_risk}[made.card.name].RECIPE
    for record in recipe.load().records:
        program.signature.prepare(record[None])
