"""The tables, made and changed step by step: each step is a file, applied once and recorded."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from cloakwork.errors import ConfigError

from .statement import Statement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .statement import Work

__all__ = ["migrate"]

RECORD = "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY) STRICT"
APPLIED = Statement("SELECT coalesce(max(version), 0) FROM migrations")
APPLY = Statement("INSERT INTO migrations SELECT version FROM {batch}", "version bigint")


def migrate(words: Mapping[str, str]) -> Work[None]:
    """Bring a database to this version's tables.

    Args:
        words: of SQLite's, in which the files are written, and what this database says in their stead.

    Raises:
        ConfigError: `other_schema`, a later version of cloakwork wrote it.
    """
    yield _statement(RECORD, words)()
    ((version,),) = yield APPLIED()
    steps = sorted((files(__package__) / "schema").iterdir(), key=lambda step: step.name)
    if version > len(steps):
        raise ConfigError(
            "other_schema",
            f"The database has schema {version} and this version of cloakwork knows {len(steps)}; "
            "use the later version of cloakwork, or another database.",
        )
    for number, step in enumerate(steps[version:], version + 1):
        for text in step.read_text("utf-8").strip().removesuffix(";").split(";\n"):
            yield _statement(text, words)()
        yield APPLY([(number,)])


def _statement(text: str, words: Mapping[str, str]) -> Statement:
    for word, instead in words.items():
        text = text.replace(word, instead)
    return Statement(text)
