"""CPU time of importing the SDK, and of having a client ready, against openai's."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from harness import PEERS_PYTHON, in_turns, less_is_better, write

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 15
TIMED = "import time; began = time.process_time(); {code}; print(time.process_time() - began)"
IMPORT = "CPU seconds inside a fresh interpreter, byte code cached"
READY = "the same with a client made: httpx included on both sides"


def cpu(python: Path | str, code: str) -> float:
    """Run code in a fresh interpreter and return the CPU seconds it took there."""
    done = subprocess.run([python, "-c", TIMED.format(code=code)], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    imports = in_turns(
        ROUNDS, lambda: cpu(sys.executable, "import cloakwork"), lambda: cpu(PEERS_PYTHON, "import openai")
    )
    clients = in_turns(
        ROUNDS,
        lambda: cpu(sys.executable, "import cloakwork; cloakwork.Client('http://localhost', 'key')"),
        lambda: cpu(PEERS_PYTHON, "import openai; openai.OpenAI(base_url='http://localhost', api_key='key')"),
    )
    write(
        "sdk_import",
        [
            less_is_better(imports, "sdk.import_cpu", "s", "openai", IMPORT),
            less_is_better(clients, "sdk.client_cpu", "s", "openai", READY),
        ],
    )


if __name__ == "__main__":
    main()
