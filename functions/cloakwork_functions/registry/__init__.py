"""Artifacts by digest, model cards, and the names that point at them."""

from .artifact import Artifact, write_manifest
from .registry import Registry

__all__ = ["Artifact", "Registry", "write_manifest"]
