"""The operator's folder: registry, ledger and the evaluation keys that clients uploaded.

`CLOAKWORK_HOME`, or ~/.local/share/cloakwork. No secret key of a client is ever in it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Home"]


@dataclass(frozen=True)
class Home:
    """Where an operator's state lies."""

    root: Path

    @classmethod
    def default(cls) -> Home:
        """Take the folder from the environment."""
        if explicit := os.environ.get("CLOAKWORK_HOME"):
            return cls(Path(explicit).absolute())
        data = os.environ.get("XDG_DATA_HOME")
        return cls((Path(data) if data else Path.home() / ".local" / "share") / "cloakwork")

    @property
    def registry(self) -> Path:
        """Artifacts by digest, and the names that point at them."""
        return self.root / "registry"

    @property
    def database(self) -> Path:
        """API keys and ledger."""
        return self.root / "cloakwork.db"

    @property
    def secret(self) -> Path:
        """The service's master secret; keep a copy elsewhere."""
        return self.root / "secret"

    @property
    def evaluation_keys(self) -> Path:
        """Evaluation keys, a folder an API key."""
        return self.root / "evaluation-keys"

    def make(self) -> None:
        """Create the folder, readable by the operator alone."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
