from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from cloakwork.wire import Mode
from cloakwork_functions.models import NAMES, life_cycle, train
from cloakwork_functions.models.data import Data
from cloakwork_functions.models.digits import RECIPE as DIGITS
from cloakwork_functions.models.tumor_risk import RECIPE as TUMOR_RISK

RECIPES = {recipe.name: recipe for recipe in (DIGITS, TUMOR_RISK)}


def network(made):
    """The trained network, rebuilt from its weights file alone."""
    recipe = RECIPES[made.card.name]
    module = recipe.build(recipe.load())
    module.load_state_dict(load_file(made.folder / "plaintext" / "weights.safetensors"))
    return module.eval()


def test_the_catalogue_knows_every_recipe():
    assert set(NAMES) == set(RECIPES)
    with pytest.raises(KeyError, match="tumor-risk"):
        train("tumour-risk", None)


def test_listing_the_catalogue_needs_no_torch():
    code = "import sys, cloakwork_functions.models; assert not {'torch', 'sklearn'} & sys.modules.keys()"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)}
    )


def test_the_card_on_disk_is_the_one_returned(made):
    assert made.card == made.returned


def test_the_folder_holds_what_the_card_names(made):
    expected = {
        "card.json",
        "heldout.safetensors",
        "plaintext/model.onnx",
        "plaintext/weights.safetensors",
        "anonymized/release.json",
        "anonymized/model.onnx",
        "anonymized/weights.safetensors",
        "encrypted/report.json",
        *(
            f"encrypted/{program}/{name}"
            for program in ("latency", "throughput")
            for name in ("signature.json", "circuit.json", "constants.safetensors")
        ),
    }
    files = {p.relative_to(made.folder).as_posix() for p in made.folder.rglob("*") if p.is_file()}
    assert files == expected
    named = {offer.artifact for offer in made.card.modes.values()} - {None}
    programs = {program.artifact for offer in made.card.modes.values() for program in offer.programs.values()}
    assert len(programs) == 2
    assert named | programs <= files
    assert set(made.card.modes) == set(Mode)


def test_plaintext_accuracy(made):
    assert made.card.modes[Mode.PLAINTEXT].accuracy >= {"tumor-risk": 0.95, "digits": 0.97}[made.card.name]


def test_the_cards_metrics_are_what_the_served_graph_scores(made):
    said, labels = made.run(Mode.PLAINTEXT, made.held.records).argmax(axis=1), made.held.labels
    expected = {
        "accuracy": accuracy_score(labels, said),
        "precision": precision_score(labels, said, average="macro"),
        "recall": recall_score(labels, said, average="macro"),
        "f1": f1_score(labels, said, average="macro"),
    }
    assert made.card.metrics == pytest.approx(expected, abs=1e-12)
    assert made.card.modes[Mode.PLAINTEXT].accuracy == made.card.metrics["accuracy"]


@pytest.mark.parametrize("batch", [1, 2, 17])
def test_the_graph_computes_what_torch_does(made, batch):
    records = made.held.records[:batch]
    with torch.inference_mode():
        expected = torch.softmax(network(made)(torch.from_numpy(records)), dim=1).numpy()
    output = made.run(Mode.PLAINTEXT, records)
    assert output.dtype == np.float32
    assert output == pytest.approx(expected, abs=1e-5)
    assert output.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert output.shape == (batch, *made.card.output.shape)


@pytest.mark.parametrize("mode", [Mode.PLAINTEXT, Mode.ANONYMIZED])
def test_the_graph_is_whole_and_says_nothing_of_its_builder(made, mode):
    path = made.folder / mode / "model.onnx"
    graph = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(graph, full_check=True)
    assert not any(tensor.external_data for tensor in graph.graph.initializer)
    assert b"stack_trace" not in path.read_bytes()
    assert b".py" not in path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_held_out_records_are_not_learnt_from(name, tmp_path, monkeypatch):
    received = {}

    def spying(stage, call):
        def spy(*given, **named):
            sets = [value for value in (*given, *named.values()) if isinstance(value, Data)]
            received.setdefault(stage, []).extend(sets)
            return call(*given, **named)

        return spy

    recipe = RECIPES[name]
    for stage in ("choose", "fit", "learn_release", "fit_reader"):
        monkeypatch.setattr(life_cycle, stage, spying(stage, getattr(life_cycle, stage)))
    compiling = life_cycle.compile

    def compiled(network, records, *, labels, **options):
        received["compile"] = [Data(records, labels)]
        return compiling(network, records, labels=labels, throughput=False, **options)

    monkeypatch.setattr(life_cycle, "compile", compiled)
    life_cycle.run(replace(recipe, build=spying("build", recipe.build), epochs=1), tmp_path, seed=0)
    held = {record.tobytes() for record in load_arrays(tmp_path / "heldout.safetensors")["records"]}
    assert received.keys() == {"choose", "fit", "learn_release", "fit_reader", "build", "compile"}
    for stage, sets in received.items():
        seen = {record.tobytes() for data in sets for record in data.records}
        assert len(seen) > 2 * len(held), stage
        assert not seen & held, stage


def test_a_quarter_of_the_records_is_held_out(made):
    data, dropped = RECIPES[made.card.name].load().clean()
    assert len(made.held) == pytest.approx(len(data) / 4, abs=1)
    assert made.card.training["records"] == str(len(data) - len(made.held))
    assert made.card.training["records_dropped"] == str(dropped)


def test_records_fit_the_cards_input(made):
    card, records = made.card, made.held.records
    assert records.shape[1:] == card.input.shape
    assert records.dtype == card.input.dtype
    assert records.min() >= card.input.minimum
    assert card.input.maximum is None or records.max() <= card.input.maximum


def test_modes_cost_more_the_more_they_compute(made):
    prices = [made.card.modes[mode].price_nano_usd for mode in Mode]
    assert prices == sorted(prices)
    assert prices[0] > 0


def test_tumor_risk_counts_malignant_as_one():
    data = TUMOR_RISK.load()
    assert TUMOR_RISK.labels[1] == "malignant"
    assert np.bincount(data.labels).tolist() == [357, 212]
    # Malignant tumours have the larger nuclei.
    assert data.records[data.labels == 1, 0].mean() > data.records[data.labels == 0, 0].mean()


@pytest.mark.parametrize("made", ["tumor-risk"], indirect=True)
def test_training_again_gives_the_same_bytes(made, tmp_path):
    train("tumor-risk", tmp_path, seed=0)
    for path in (p for p in made.folder.rglob("*") if p.is_file()):
        first, again = path.read_bytes(), (tmp_path / path.relative_to(made.folder)).read_bytes()
        if path.suffix == ".json":
            # Times are what they are, and so is the noise of fresh keys.
            first, again = (re.sub(rb'"measured_\w+": ?[-+.e0-9]+', b"", text) for text in (first, again))
        assert again == first
