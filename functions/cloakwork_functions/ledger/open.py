"""Which store: the file in the operator's folder, or the Postgres that the operator names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cloakwork.errors import ConfigError

from .sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

    from .store import Store

__all__ = ["open_store"]


async def open_store(path: Path, url: str | None = None) -> Store:
    """Open Postgres at `url`, or at CLOAKWORK_DATABASE_URL; with neither, SQLite in the file at `path`.

    Raises:
        BusyError: `ledger_unavailable`.
        ConfigError: `other_schema`; `extra_missing`, there is no driver for Postgres; what
            `PostgresStore.open` raises.
    """
    url = url or os.environ.get("CLOAKWORK_DATABASE_URL")
    if not url:
        return SqliteStore(path)
    try:
        from .postgres import PostgresStore
    except ModuleNotFoundError:
        raise ConfigError("extra_missing", "Postgres needs: pip install 'cloakwork[postgres]'.") from None
    return await PostgresStore.open(url)
