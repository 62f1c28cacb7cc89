"""The API described in OpenAPI 3.1, with schemas taken from the wire's own dataclasses."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from cloakwork.chunk import KeyUpload
from cloakwork.errors import CODES
from cloakwork.wire import Header, Media, Mode, ModelInfo, ModelList, Path, RunAnswer, RunInput

__all__ = ["document"]

SHOWN = (KeyUpload, ModelInfo, ModelList, RunAnswer, RunInput)
BINARY = {"schema": {"type": "string", "format": "binary"}}


@cache
def document() -> dict[str, Any]:
    """Build the description."""
    refs, schemas = msgspec.json.schema_components(SHOWN, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(SHOWN, refs, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cloakwork",
            "version": "1",
            "description": "Models that never need to see your data.",
        },
        "security": [{"key": []}],
        "paths": {
            Path.MODELS: {"get": _operation("List the models", by_type[ModelList])},
            Path.MODEL: {"get": _operation("Read a model's card", by_type[ModelInfo], "model")},
            Path.MODE: {"get": _mode()},
            Path.RUN: {"post": _run(by_type)},
            Path.EVALUATION_KEYS: _evaluation_keys(by_type[KeyUpload]),
            Path.HEALTH: {"get": _open("Is the process alive?")},
            Path.READY: {"get": _open("Can it serve?")},
            Path.OPENAPI: {"get": _open("This document")},
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {**schemas, "Problem": _problem()},
        },
    }


def _mode() -> dict[str, Any]:
    operation = _operation("Read the client's public half of a mode", {}, "model", "mode")
    operation["parameters"].append({"name": "program", "in": "query", "schema": {"type": "string"}})
    return operation


def _run(by_type: dict[type, dict[str, Any]]) -> dict[str, Any]:
    operation = _operation("Run a model on a record or a batch", by_type[RunAnswer], "model")
    operation["parameters"] += [
        {"name": "privacy", "in": "query", "schema": {"enum": list(Mode), "default": Mode.PLAINTEXT}},
        {"name": Header.IDEMPOTENCY_KEY, "in": "header", "schema": {"type": "string"}},
    ]
    content = {Media.JSON: {"schema": by_type[RunInput]}, Media.TENSOR: BINARY, Media.FRAME: BINARY}
    operation["requestBody"] = {"required": True, "content": content}
    operation["responses"]["200"]["content"] |= {Media.TENSOR: BINARY, Media.FRAME: BINARY}
    operation["responses"]["200"]["headers"] = {
        name: {"schema": {"type": "string"}}
        for name in (Header.REQUEST_ID, Header.MODEL, Header.MODE, Header.COST)
    }
    return operation


def _evaluation_keys(standing: dict[str, Any]) -> dict[str, Any]:
    def operation(summary: str) -> dict[str, Any]:
        return _operation(summary, standing, "model", "fingerprint")

    put = operation("Upload evaluation keys, whole or in chunks that follow on one another")
    put["parameters"].append(
        {
            "name": Header.CONTENT_RANGE,
            "in": "header",
            "description": "`bytes FIRST-LAST/TOTAL` of a chunk; `bytes */TOTAL` to have all of them checked "
            "again; without it the body is all of them. A chunk begins at `received`.",
            "schema": {"type": "string"},
        }
    )
    put["requestBody"] = {"required": True, "content": {Media.FRAME: BINARY}}
    return {
        "get": operation("How much of these evaluation keys is here?"),
        "put": put,
        "delete": operation("Remove evaluation keys, or what is here of them"),
    }


def _operation(summary: str, schema: dict[str, Any], *parameters: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in parameters
        ],
        "responses": {
            "200": {"description": "Done", "content": {Media.JSON: {"schema": schema}}},
            "default": {
                "description": "Refused or failed; the code says why",
                "content": {Media.PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    }


def _open(summary: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "security": [],
        "responses": {"200": {"description": "Yes", "content": {Media.JSON: {"schema": {"type": "object"}}}}},
    }


def _problem() -> dict[str, Any]:
    text = {"type": "string"}
    details = {
        "message": text,
        "type": text,
        "param": {"type": ["string", "null"]},
        "code": {"enum": sorted(CODES)},
    }
    return {
        "type": "object",
        "description": "RFC 9457 problem details with an error object as OpenAI's clients read it",
        "required": ["type", "title", "status", "detail", "instance", "error"],
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "instance": text,
            "error": {"type": "object", "required": ["message", "code"], "properties": details},
        },
    }
