"""A model of one's own: compiled, written, published and called, and refused where it contradicts itself."""

import dataclasses
import json
from argparse import ArgumentParser

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from torch import nn

from cloakwork.wire import Mode
from cloakwork_functions.commands import compile as command
from cloakwork_functions.models.own import Model, build
from cloakwork_functions.registry import Artifact
from cloakwork_functions.runtime.function import load
from cloakwork_privacy.errors import PrivacyError

FILE = """
import numpy as np, torch
from sklearn.datasets import load_wine
from torch import nn
from cloakwork_functions.models.own import Model
wine = load_wine()
records = wine.data.astype(np.float32)
torch.manual_seed(0)
MODEL = Model(
    name="wine", summary="s", module={module}, records=records, labels=wine.target,
    held_out=records[:30], held_out_labels=wine.target[:30], classes=("a", "b", "c"),
    prices={{"plaintext": 1, "encrypted": 2}},
)
"""


@pytest.fixture(scope="module")
def model():
    wine = load_wine()
    records = wine.data.astype(np.float32)
    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm1d(13), nn.Linear(13, 8), nn.Linear(8, 3)).train()
    module(torch.from_numpy(records))
    return Model(
        name="wine",
        summary="Which cultivar?",
        module=module.eval(),
        records=records[::2],
        labels=wine.target[::2],
        held_out=records[1::2],
        held_out_labels=wine.target[1::2],
        classes=("a", "b", "c"),
        features=tuple(wine.feature_names),
        prices={"plaintext": 1, "encrypted": 2},
    )


def test_a_model_becomes_an_artifact_whose_modes_load(model, tmp_path):
    card, report = build(model, tmp_path)
    assert set(card.modes) == {Mode.PLAINTEXT, Mode.ENCRYPTED}
    assert card.modes[Mode.ENCRYPTED].report == json.loads(report.to_json())
    assert card.input.names == model.features
    for mode in card.modes:
        load(Artifact("", tmp_path, card), mode)
    with torch.no_grad():
        said = model.module(torch.from_numpy(model.held_out)).argmax(dim=1).numpy()
    accuracy = (said == model.held_out_labels).mean()
    assert card.modes[Mode.PLAINTEXT].accuracy == pytest.approx(accuracy)
    # Without activations there is nothing to approximate.
    assert card.modes[Mode.ENCRYPTED].accuracy == pytest.approx(accuracy)
    assert report.approximation_error < 1e-6


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": "Wine!"}, "name"),
        ({"prices": {"plaintext": 1}}, "prices: give one for encrypted"),
        ({"labels": np.zeros(3, int)}, "as many of one"),
        ({"held_out": np.zeros((0, 13), np.float32), "held_out_labels": np.zeros(0, int)}, "held_out"),
        ({"held_out": np.zeros((89, 12), np.float32)}, "held_out"),
        ({"classes": ("a", "b")}, "class numbers"),
        ({"features": ("one",)}, "one name"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(model, changes, fault, tmp_path):
    with pytest.raises(PrivacyError, match=fault) as refused:
        build(dataclasses.replace(model, **changes), tmp_path / "none")
    assert refused.value.code == "model_invalid"
    assert not (tmp_path / "none").exists()


def run(folder, text):
    (folder / "wine.py").write_text(text)
    parser = ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args([str(folder / "wine.py"), "--out", str(folder / "out")]))


def test_the_command_compiles_a_file_and_prints_the_report(tmp_path, capsys):
    assert run(tmp_path, FILE.format(module="nn.Sequential(nn.Linear(13, 3)).eval()")) == 0
    said = capsys.readouterr().out
    for words in ("latency", "throughput", "server, measured", "error, predicted", "agrees with the module"):
        assert words in said
    assert (tmp_path / "out/card.json").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("X = 1", "sets MODEL"),
        (FILE.format(module="nn.Sequential(nn.Linear(13, 3), nn.LeakyReLU()).eval()"), "ReLU"),
        (FILE.format(module="nn.Linear(13, 1)"), "a logit for each class"),
        (FILE.format(module="nn.Linear(12, 3)"), "does not take"),
    ],
)
def test_the_command_refuses_in_words(text, words, tmp_path, capsys):
    assert run(tmp_path, text) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
