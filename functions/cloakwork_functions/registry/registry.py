"""Names for artifacts: versions count up, aliases point at versions.

    digits            the version that `prod` points at
    digits@prod       the same
    digits@3          version 3
    digits@sha256:ab… the version whose digest starts so

Artifacts lie under `artifacts/DIGEST`; a model's versions and aliases in `models/NAME.json`, replaced
whole. Writers take a lock; readers need none.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cloakwork.errors import NotFoundError, ServerError
from cloakwork.wire import ModelInfo

from .artifact import Artifact, write_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Registry"]

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
ALIAS = re.compile(r"[a-z][a-z0-9-]{0,30}")
VERSION = re.compile(r"[1-9][0-9]{0,8}")
DEFAULT_ALIAS = "prod"

faults = logging.getLogger("cloakwork.faults")


class Index(msgspec.Struct):
    """A model's versions, oldest first, and its aliases."""

    versions: list[str] = []
    aliases: dict[str, int] = {}


class Registry:
    """Published models under one folder."""

    def __init__(self, root: Path) -> None:
        self._artifacts = root / "artifacts"
        self._models = root / "models"
        self._opened: dict[str, Artifact] = {}
        self._resolved: dict[str, tuple[int | None, ModelInfo]] = {}

    def publish(self, folder: Path, alias: str = DEFAULT_ALIAS) -> ModelInfo:
        """Store a copy of an artifact, make it the next version and point an alias at it.

        Publishing the same bytes again makes no new version.

        Raises:
            ValueError: the alias or the card's name is not one.
            FileNotFoundError: the folder has no card.
        """
        if not ALIAS.fullmatch(alias):
            raise ValueError(f"{alias!r} is no alias: use lower-case letters, digits and dashes")
        if not (folder / "card.json").is_file():
            raise FileNotFoundError(f"{folder} holds no card.json; give a folder that a recipe wrote")
        self._artifacts.mkdir(parents=True, exist_ok=True)
        self._models.mkdir(parents=True, exist_ok=True)
        artifact = self._store(folder)
        name = artifact.card.name
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no model name: use lower-case letters, digits and dashes")
        with self._locked():
            index = self._index(name) or Index()
            if artifact.digest not in index.versions:
                index.versions.append(artifact.digest)
            index.aliases[alias] = index.versions.index(artifact.digest) + 1
            _replace(self._models / f"{name}.json", msgspec.json.encode(index))
        return self.resolve(f"{name}@{alias}")

    def list(self) -> tuple[ModelInfo, ...]:
        """List the version of each model that its default alias, or else its newest, names.

        A model whose artifact was tampered with is left out, and logged: it must not take the rest down.
        """
        found = []
        for path in sorted(self._models.glob("*.json")):
            try:
                found.append(self.resolve(path.stem))
            except ServerError as failure:
                faults.error("%s is not served: %s", path.stem, failure.message)
        return tuple(found)

    def resolve(self, ref: str) -> ModelInfo:
        """Turn a reference into one exact version.

        Raises:
            NotFoundError: `unknown_model`.
            ServerError: `model_unavailable` when the artifact was tampered with.
        """
        name = ref.partition("@")[0]
        changed = self._changed(name)
        known = self._resolved.get(ref)
        if known is None or known[0] != changed or changed is None:
            known = self._resolved[ref] = (changed, self._resolve(ref))
        return known[1]

    def _resolve(self, ref: str) -> ModelInfo:
        name, _, wanted = ref.partition("@")
        index = self._index(name)
        version = _version(index, wanted) if index else None
        if index is None or version is None:
            raise NotFoundError(
                "unknown_model",
                "No model of that name and version is published; list them to see what is.",
                param="model",
            )
        digest = index.versions[version - 1]
        aliases = tuple(sorted(alias for alias, at in index.aliases.items() if at == version))
        return ModelInfo(name, version, digest, aliases, self.artifact(digest).card)

    def artifact(self, digest: str) -> Artifact:
        """Open an artifact, verified the first time it is asked for."""
        if digest not in self._opened:
            self._opened[digest] = Artifact.open(self._artifacts / digest, digest)
        return self._opened[digest]

    def _store(self, folder: Path) -> Artifact:
        with tempfile.TemporaryDirectory(dir=self._artifacts) as scratch:
            copy = Path(scratch) / "artifact"
            shutil.copytree(folder, copy, symlinks=False)
            digest = write_manifest(copy)
            target = self._artifacts / digest
            if target.exists() and not _sound(target, digest):
                # Publishing the same bytes again is how a damaged artifact is mended.
                target.rename(Path(scratch) / "damaged")
            if not target.exists():
                copy.rename(target)
        self._opened.pop(digest, None)
        return Artifact.open(target, digest)

    def _changed(self, name: str) -> int | None:
        """Tell when a model's index last changed, in nanoseconds; None when there is none."""
        if not NAME.fullmatch(name):
            return None
        try:
            return os.stat(f"{self._models}/{name}.json").st_mtime_ns  # noqa: PTH116 (asked on every call)
        except FileNotFoundError:
            return None

    def _index(self, name: str) -> Index | None:
        if self._changed(name) is None:
            return None
        try:
            return msgspec.json.decode((self._models / f"{name}.json").read_bytes(), type=Index)
        except msgspec.DecodeError:
            raise ServerError(
                "model_unavailable", "The model's index is damaged; publish the model again."
            ) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._models / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _sound(folder: Path, digest: str) -> bool:
    try:
        Artifact.open(folder, digest)
    except ServerError:
        return False
    return True


def _version(index: Index, wanted: str) -> int | None:
    if not wanted:
        return index.aliases.get(DEFAULT_ALIAS, len(index.versions))
    if VERSION.fullmatch(wanted):
        return int(wanted) if int(wanted) <= len(index.versions) else None
    if wanted.startswith("sha256:"):
        prefix = wanted.removeprefix("sha256:")
        found = [at for at, digest in enumerate(index.versions, 1) if prefix and digest.startswith(prefix)]
        return found[0] if len(found) == 1 else None
    return index.aliases.get(wanted)


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that it is found whole or as it was, also after a power cut."""
    scratch = path.with_suffix(".new")
    with scratch.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.rename(path)
