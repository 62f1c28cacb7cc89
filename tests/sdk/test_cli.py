import json
import os
import subprocess

import numpy as np
import pytest
from conftest import CLI


@pytest.fixture
def run(server, config, tmp_path):
    environment = os.environ | {
        "CLOAKWORK_BASE_URL": server.address,
        "CLOAKWORK_API_KEY": server.key,
        "CLOAKWORK_CONFIG": str(config),
        "CLOAKWORK_HOME": str(tmp_path / "home"),
    }

    def run(*arguments, text=None):
        return subprocess.run(
            [*CLI, *map(str, arguments)],
            env=environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_models_lists_modes_and_prices(run):
    done = run("models")
    assert "digits@1" in done.stdout
    assert "ε = 4 a record" in done.stdout
    assert "$0.000002 a record" in done.stdout


def test_models_shows_a_card(run):
    assert json.loads(run("models", "tumor-risk").stdout)["card"]["input"]["shape"] == [30]


@pytest.mark.parametrize("mode", ["plaintext", "anonymized", "encrypted"])
def test_run_reads_files_and_prints_json(run, held_out, tmp_path, mode):
    np.save(tmp_path / "image.npy", held_out("digits")[0][0])
    done = run("run", "digits", tmp_path / "image.npy", "--privacy", mode)
    assert len(json.loads(done.stdout)) == 10
    assert f"digits@1, {mode}: sent " in done.stderr
    assert "bytes up" in done.stderr


def test_run_reads_standard_input(run):
    assert len(json.loads(run("run", "tumor-risk", "-", text=json.dumps([1.0] * 30)).stdout)) == 2


@pytest.mark.parametrize(
    ("arguments", "text", "code"),
    [
        (("run", "tumor-risk", "-"), "[1]", "wrong_shape"),
        (("run", "tumor-risk", "-"), "[", "bad_json"),
        (("run", "tumor-risk", "/nowhere.json"), "", "bad_request"),
        (("run", "nothing", "-"), "[1]", "unknown_model"),
    ],
)
def test_failures_are_one_line_and_status_1(run, arguments, text, code):
    done = run(*arguments, text=text)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"[{code}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_names_every_command(run):
    help_text = run("--help").stdout
    assert all(command in help_text for command in ("serve", "train", "publish", "models", "run", "keys"))


def test_a_port_in_use_is_one_line(run, server):
    done = run("serve", "--port", server.port)
    assert done.returncode == 1
    assert f"port {server.port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_whole_key_given_for_a_prefix_is_not_printed_back(run, server):
    done = run("keys", "revoke", server.key)
    assert done.returncode == 1
    assert server.key not in done.stdout + done.stderr


@pytest.mark.parametrize("seconds", ["nan", "-1", "0", "inf"])
def test_a_deadline_that_is_none_is_refused(run, seconds):
    done = run("run", "tumor-risk", "-", "--deadline", seconds, text="[1]")
    assert "[bad_request]" in done.stderr
