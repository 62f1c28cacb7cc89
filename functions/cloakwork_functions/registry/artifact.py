"""An artifact: a folder of files named, every byte of it, by one SHA-256.

    card.json                   the model card
    plaintext/model.onnx        records in, outputs out
    plaintext/weights.safetensors
    anonymized/release.json     the client's half of the mode: projection, mechanism, ε
    anonymized/model.onnx       releases in, outputs out
    encrypted/PROGRAM/signature.json    the client's half of a program: parameters, packing
    encrypted/PROGRAM/circuit.json      the server's half, with constants.safetensors
    encrypted/report.json       what compiling them found out
    heldout.safetensors         the records the card's figures were measured on
    manifest.json               path, size and SHA-256 of each of the others

The digest of the artifact is the SHA-256 of manifest.json. Opening one checks every file, so what is
served is what was published.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cloakwork.errors import ServerError
from cloakwork.wire import Card

__all__ = ["Artifact", "write_manifest"]

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Entry:
    """One file of an artifact."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Artifact:
    """A verified artifact, lying in `folder`."""

    digest: str
    folder: Path
    card: Card

    @classmethod
    def open(cls, folder: Path, digest: str) -> Artifact:
        """Verify every file against the digest, then read the card.

        Raises:
            ServerError: `model_unavailable` when a file is changed, missing or not in the manifest.
        """
        manifest = folder / MANIFEST
        if not manifest.is_file() or _sha256(manifest) != digest:
            raise _tampered("its manifest is missing or changed")
        listed = msgspec.json.decode(manifest.read_bytes(), type=dict[str, Entry])
        if listed.keys() != set(_files(folder)):
            raise _tampered("files were added or removed")
        for name, entry in listed.items():
            path = folder / name
            if path.is_symlink() or path.stat().st_size != entry.bytes or _sha256(path) != entry.sha256:
                raise _tampered(f"{name} was changed")
        card = msgspec.json.decode((folder / "card.json").read_bytes(), type=Card)
        return cls(digest, folder, card)


def write_manifest(folder: Path) -> str:
    """List a folder's files in its manifest and return the artifact's digest."""
    entries = {
        name: Entry(_sha256(folder / name), (folder / name).stat().st_size) for name in sorted(_files(folder))
    }
    text = msgspec.json.format(msgspec.json.encode(entries), indent=1)
    (folder / MANIFEST).write_bytes(text)
    return hashlib.sha256(text).hexdigest()


def _files(folder: Path) -> list[str]:
    found = []
    for root, _, names in os.walk(folder):
        found += [(Path(root) / name).relative_to(folder).as_posix() for name in names]
    return [name for name in found if name != MANIFEST]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tampered(why: str) -> ServerError:
    return ServerError(
        "model_unavailable",
        f"The model's artifact is not what was published: {why}. Publish the model again.",
    )
