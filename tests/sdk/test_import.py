"""Importing the SDK is cheap, and the client runs with nothing installed but httpx."""

import json
import subprocess
import sys

HEAVY = "{'httpx', 'numpy', 'torch', 'tenseal', 'msgspec', 'onnxruntime', 'sklearn'}"


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_import_brings_no_library_along():
    assert python(f"import sys, cloakwork; print({HEAVY} & set(sys.modules))") == "set()"


def test_naming_the_client_class_does_not_import_httpx_but_making_one_does():
    code = "import sys; from cloakwork import Client; before = 'httpx' in sys.modules; "
    code += "Client('http://localhost', 'key'); print(before, 'httpx' in sys.modules, 'numpy' in sys.modules)"
    assert python(code) == "False True False"


def test_unknown_names_are_attribute_errors():
    assert python("import cloakwork; print(hasattr(cloakwork, 'nothing'))") == "False"


def test_every_public_name_exists():
    assert (
        python("import cloakwork; print([n for n in cloakwork.__all__ if not hasattr(cloakwork, n)])") == "[]"
    )


def test_a_plaintext_call_needs_no_numpy(server):
    code = "import sys; sys.modules['numpy'] = None; from cloakwork import Client; "
    code += f"print(Client({server.address!r}, {server.key!r}).run('tumor-risk', [1.0] * 30).output)"
    assert len(json.loads(python(code))) == 2
