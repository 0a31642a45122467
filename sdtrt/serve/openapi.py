"""The OpenAPI document of the operations."""

import re
from http import HTTPStatus
from typing import Any

from sdtrt._version import __version__
from sdtrt.serve.operations import OPERATIONS, Operation
from sdtrt.serve.problems import MEDIA_TYPE

BINARY = {"schema": {"type": "string", "format": "binary"}}


def document() -> dict[str, Any]:
    """Return the document, OpenAPI 3.1."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(plain(operation.path), {})[operation.method.lower()] = described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "sdtrt", "version": __version__, "description": "Photographs as .sdt files, and back."},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def plain(path: str) -> str:
    """Return a route's path as OpenAPI writes it."""
    return re.sub(r":\w+}", "}", path)


def described(operation: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": one.name, "in": "query", "schema": dict(one.schema), "description": one.text}
        for one in operation.parameters
    ]
    if "{name" in operation.path:
        parameters.insert(0, {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}})
    refused = operation.problems if operation.open else (401, *operation.problems)
    said: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": parameters,
        "security": [] if operation.open else [{"token": []}],
        "responses": {"200": {"description": "OK", "content": dict.fromkeys(operation.gives, BINARY)}}
        | {
            str(status): {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {}}}
            for status in sorted(refused)
        },
    }
    if operation.name == "file":
        said["responses"] |= {"206": {"description": "A range of it"}, "304": {"description": "As it was"}}
    if operation.takes:
        said["requestBody"] = {"required": True, "content": {operation.takes: BINARY}}
    return said
