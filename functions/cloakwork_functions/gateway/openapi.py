"""The API described in OpenAPI 3.1, with schemas taken from the wire's own dataclasses."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from cloakwork.chunk import KeyUpload
from cloakwork.errors import CODES
from cloakwork.quote import QuoteInput, Quotes
from cloakwork.usage import DIMENSIONS, Usage
from cloakwork.wire import (
    Header,
    Media,
    Mode,
    ModelInfo,
    ModelList,
    Path,
    ReceiptPage,
    RunAnswer,
    RunInput,
)
from cloakwork_functions.ledger import ApiKey

from .manage import KeyList, MadeKey, NewKey, OwnKey, Rotation

__all__ = ["document"]

SHOWN = (
    *(ApiKey, KeyList, MadeKey, NewKey, OwnKey, Rotation),
    *(KeyUpload, ModelInfo, ModelList, RunAnswer, RunInput),
    *(Quotes, QuoteInput, ReceiptPage, Usage),
)
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
            Path.QUOTE: {
                "post": _posted("Quote a call before it is made", by_type, QuoteInput, Quotes, "model")
            },
            Path.USAGE: {"get": _usage(by_type[Usage])},
            Path.INVOICE: {
                "get": _page("Draw up the account's invoice for a month, for a key that manages", "month")
            },
            Path.RECEIPTS: {"get": _receipts(by_type[ReceiptPage])},
            Path.OWN_KEY: {"get": _operation("What may this API key do?", by_type[OwnKey])},
            Path.KEYS: {
                "get": _operation("List the account's API keys", by_type[KeyList]),
                "post": _posted("Make an API key", by_type, NewKey, MadeKey),
            },
            Path.KEY: {
                "get": _operation("Read an API key's scope and limits", by_type[ApiKey], "prefix"),
                "delete": _operation("Revoke an API key", by_type[ApiKey], "prefix"),
            },
            Path.KEY_ROTATION: {
                "post": _posted("Replace an API key by a new one", by_type, Rotation, MadeKey, "prefix")
            },
            Path.JWKS: {"get": _open("The keys that receipts are verified by")},
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
        for name in (
            Header.REQUEST_ID,
            Header.MODEL,
            Header.MODE,
            Header.COST,
            Header.RECEIPT,
            Header.RECEIPT_SALT,
        )
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


def _posted(
    summary: str, by_type: dict[type, dict[str, Any]], asked: type, answered: type, *parameters: str
) -> dict[str, Any]:
    operation = _operation(summary, by_type[answered], *parameters)
    operation["requestBody"] = {"content": {Media.JSON: {"schema": by_type[asked]}}}
    return operation


def _usage(schema: dict[str, Any]) -> dict[str, Any]:
    operation = _operation("What the key's project used and was charged; its account, if it manages", schema)
    operation["parameters"] += [
        {"name": "from", "in": "query", "schema": {"type": "string", "format": "date"}},
        {"name": "to", "in": "query", "schema": {"type": "string", "format": "date"}},
        {"name": "by", "in": "query", "schema": {"type": "string"}, "description": ", ".join(DIMENSIONS)},
        {"name": "format", "in": "query", "schema": {"enum": ["json", "csv"]}},
    ]
    operation["responses"]["200"]["content"][Media.CSV] = {"schema": {"type": "string"}}
    return operation


def _receipts(schema: dict[str, Any]) -> dict[str, Any]:
    operation = _operation("Read the account's receipts, a thousand at a time", schema)
    operation["parameters"].append({"name": "after", "in": "query", "schema": {"type": "integer"}})
    return operation


def _page(summary: str, *parameters: str) -> dict[str, Any]:
    operation = _operation(summary, {}, *parameters)
    operation["responses"]["200"]["content"] = {Media.HTML: {"schema": {"type": "string"}}}
    return operation


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
