"""`cloakwork invoice`, as an operator types it."""

import subprocess
import time

import pytest
from conftest import cli

from cloakwork_functions.home import Home

MONTH = time.strftime("%Y-%m", time.gmtime())


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def test_an_invoice_is_written_to_a_file(home, tmp_path):
    cli(home, "accounts", "create", "Acme & <Sons>")
    cli(home, "accounts", "credit", "acme-sons", "25.5")
    said = cli(home, "invoice", "acme-sons", MONTH, "--out", str(tmp_path / "invoice.html"))
    assert said.startswith(f"acme-sons, {MONTH}: $0.000000000; wrote ")
    page = (tmp_path / "invoice.html").read_text("utf-8")
    assert "Acme &amp; &lt;Sons&gt;" in page
    assert page.count("25.500000000") == 2
    assert "Preliminary" in page


@pytest.mark.parametrize(
    ("account", "month", "code"), [("nobody", MONTH, "unknown_account"), ("nobody", "2024-13", "bad_request")]
)
def test_what_cannot_be_drawn_up_leaves_no_file(home, tmp_path, account, month, code):
    with pytest.raises(subprocess.CalledProcessError) as failure:
        cli(home, "invoice", account, month, "--out", str(tmp_path / "invoice.html"))
    assert f"[{code}]" in failure.value.stderr
    assert not (tmp_path / "invoice.html").exists()
