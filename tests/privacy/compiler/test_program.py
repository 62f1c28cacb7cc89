import dataclasses
import json

import numpy as np
import pytest

from cloakwork_privacy.compiler.linear import linear
from cloakwork_privacy.compiler.program import Program
from cloakwork_privacy.errors import PrivacyError


@pytest.fixture
def program():
    return linear([0.5, -1.5], 0.25, [1.0, 2.0], [1.0, 0.5])


@pytest.fixture
def folder(program, tmp_path):
    program.save(tmp_path / "program")
    return tmp_path / "program"


def refusal(folder):
    with pytest.raises(PrivacyError) as caught:
        Program.load(folder)
    return caught.value.code


def test_a_program_survives(program, folder):
    assert sorted(file.name for file in folder.iterdir()) == [
        "circuit.json",
        "constants.safetensors",
        "signature.json",
    ]
    read = Program.load(folder)
    assert read.signature == program.signature
    assert read.circuit.operations == program.circuit.operations
    for name, constant in program.circuit.constants.items():
        assert (read.circuit.constants[name].scale, read.circuit.constants[name].level) == (constant.scale, 1)
        assert np.array_equal(read.circuit.constants[name].vector, constant.vector)


def test_saving_twice_writes_the_same_bytes(program, folder, tmp_path):
    program.save(tmp_path / "again")
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_other_weights_are_another_program(program):
    other = linear([0.5, -1.25], 0.25, [1.0, 2.0], [1.0, 0.5])
    assert other.signature.circuit != program.signature.circuit
    assert other.signature.digest != program.signature.digest


@pytest.mark.parametrize(
    ("name", "place"), [("circuit.json", 20), ("constants.safetensors", -1), ("constants.safetensors", 3)]
)
def test_damage_is_noticed(folder, name, place):
    data = bytearray((folder / name).read_bytes())
    data[place] ^= 1
    (folder / name).write_bytes(data)
    assert refusal(folder) == "program_invalid"


def test_halves_of_two_programs_do_not_mix(folder, tmp_path):
    linear([9.0, -1.5], 0.25, [1.0, 2.0], [1.0, 0.5]).save(tmp_path / "other")
    (folder / "signature.json").write_bytes((tmp_path / "other" / "signature.json").read_bytes())
    assert refusal(folder) == "program_invalid"


@pytest.mark.parametrize(
    "step",
    [{"name": "__init__", "of": [0]}, {"name": "square", "of": [9]}, {"name": "square", "of": [0], "by": 1}],
)
def test_only_known_operations_are_read(folder, step):
    circuit = json.loads((folder / "circuit.json").read_bytes())
    circuit["operations"].insert(0, step)
    (folder / "circuit.json").write_text(json.dumps(circuit))
    assert refusal(folder) == "program_invalid"


def test_a_missing_file_is_missing(folder):
    (folder / "circuit.json").unlink()
    with pytest.raises(FileNotFoundError):
        Program.load(folder)


def test_programs_do_not_change(program):
    with pytest.raises(dataclasses.FrozenInstanceError):
        program.signature.scale = 1.0
