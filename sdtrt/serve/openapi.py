"""The OpenAPI document, made from the table of operations."""

import re
from http import HTTPStatus
from typing import Any

from sdtrt._version import __version__
from sdtrt.serve.operations import OPERATIONS, Operation
from sdtrt.serve.problems import MEDIA_TYPE

BINARY = {"schema": {"type": "string", "format": "binary"}}


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(openapi_path(operation.path), {})[operation.method.lower()] = describe_operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "sdtrt", "version": __version__, "description": "Images to .sdt files, and back."},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def openapi_path(path: str) -> str:
    """Return a Starlette route as an OpenAPI path, which has no convertors."""
    return re.sub(r":\w+}", "}", path)


def describe_operation(operation: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": parameter.name, "in": "query", "schema": dict(parameter.schema), "description": parameter.description}
        for parameter in operation.parameters
    ]
    if "{name" in operation.path:
        parameters.insert(0, {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}})
    problems = operation.problems if operation.open else (401, *operation.problems)
    description: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": parameters,
        "security": [] if operation.open else [{"token": []}],
        "responses": {"200": {"description": "OK", "content": dict.fromkeys(operation.gives, BINARY)}}
        | {
            str(status): {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {}}}
            for status in sorted(problems)
        },
    }
    if operation.name == "file":
        description["responses"] |= {"206": {"description": "A byte range"}, "304": {"description": "Not modified"}}
    if operation.takes:
        description["requestBody"] = {"required": True, "content": {operation.takes: BINARY}}
    return description
