"""Every command and every program in the README runs, in the order in which a reader meets them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import cli, serving

from cloakwork_functions.home import Home
from cloakwork_functions.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)

# CI runs the first two; the bench needs the peers' environment; a gateway runs all the while.
ELSEWHERE = {"make demo", "make test", "make bench", "cloakwork serve"}


def test_the_two_commands_are_what_ci_runs():
    script = (ROOT / ".ci" / "run").read_text()
    assert "make demo" in script
    assert "make test" in script
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test", "bench"} <= set(targets)


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A reader's machine: nothing published, no key, and a folder of their own."""
    home = Home(tmp_path / "home")
    (ROOT / "build").mkdir(exist_ok=True)
    monkeypatch.setenv("CLOAKWORK_HOME", str(home.root))
    monkeypatch.setenv("CLOAKWORK_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return home


def test_the_blocks_run_in_order(reader, trained, tmp_path):
    reader.make()
    Registry(reader.registry).publish(trained("digits")[1])
    settings = {}
    with serving(reader, tmp_path / "log") as server:
        for kind, block in BLOCKS:
            here = block.replace("http://127.0.0.1:8700", server.address).replace("cw_…", server.key)
            settings |= dict(re.findall(r"(CLOAKWORK_\w+)=(\S+)", here) if "export" in here else {})
            run(kind, here, os.environ | settings)
    assert len(BLOCKS) >= 10
    assert cli(reader, "keys", "list").count("│ revoked ") == 1


def run(kind, block, environment):
    """Run a block as a program of its own; what runs elsewhere is left out."""
    if kind == "python":
        command = [sys.executable, "-W", "error", "-c", block]
    else:
        lines = [line for line in block.splitlines() if line.partition("#")[0].strip() not in ELSEWHERE]
        command = ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
