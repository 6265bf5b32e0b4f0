"""The OpenAPI description of what is served, made of the table of resources: it cannot say anything else.

Bodies are described as they are read: a client, or a test that is made of this, learns from it what is accepted.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from ..labels import MAX_ROWS
from .about import server_metadata
from .resources import RESOURCES, Operation, Resource

Schema = dict[str, Any]

_VARIABLES = {"model": "A model's name, or a route's.", "version": "A model's version."}
_PARAMETER = {"oneOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]}
_PARAMETERS: Schema = {"type": "object", "additionalProperties": _PARAMETER}
_TEXT: Schema = {"type": "string"}
_CLASS: Schema = {"oneOf": [{"type": "integer"}, {"type": "string"}]}
_SHAPE: Schema = {"type": "array", "items": {"type": "integer"}, "maxItems": 16}
_DATATYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "BF16", "FP32", "FP64", "BYTES",
)  # fmt: skip


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    return {**schema, "required": list(required)} if required else schema


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_TENSOR = _object(
    ("name", "datatype", "shape"), name=_TEXT, datatype={"type": "string", "enum": list(_DATATYPES)}, shape=_SHAPE
)

_SCHEMAS: dict[str, Schema] = {
    "Error": _object(("error",), error={"type": "string", "minLength": 1}),
    "Nothing": _object(),
    "Description": _object(("openapi", "info", "paths")),
    "Live": _object(("live",), live={"type": "boolean"}),
    "Ready": _object(("ready",), ready={"type": "boolean"}),
    "ModelReady": _object(("name", "ready"), name=_TEXT, ready={"type": "boolean"}),
    "ServerMetadata": _object(("name", "version", "extensions"), name=_TEXT, version=_TEXT, extensions=_list(_TEXT)),
    "ModelMetadata": _object(
        ("name", "platform", "inputs", "outputs"),
        name=_TEXT, versions=_list(_TEXT), platform=_TEXT, inputs=_list(_TENSOR), outputs=_list(_TENSOR),
    ),
    "InferenceRequest": _object(
        ("inputs",),
        id=_TEXT,
        parameters=_PARAMETERS,
        inputs=_list(
            _object(
                ("name", "shape", "datatype"),
                name=_TEXT, shape=_SHAPE, datatype=_TEXT, parameters=_PARAMETERS, data={"type": "array", "items": {}},
            )
        ),
        outputs=_list(_object(("name",), name=_TEXT, parameters=_PARAMETERS)),
    ),
    "InferenceResponse": _object(
        ("model_name", "outputs"),
        model_name=_TEXT, model_version=_TEXT, id=_TEXT, parameters=_PARAMETERS,
        outputs=_list(
            _object(
                ("name", "shape", "datatype"),
                name=_TEXT, shape=_SHAPE, datatype=_TEXT, parameters=_PARAMETERS, data={"type": "array", "items": {}},
            )
        ),
    ),
    "Statistics": _object(("model_stats",), model_stats=_list({"type": "object"})),
    "ModelConfiguration": _object(("name", "platform", "max_batch_size", "input", "output"), name=_TEXT),
    "Explanation": _object(),
    "Routes": _object(("routes",), routes={"type": "object"}),
    "Trace": _object(
        trace_level={"type": "array", "items": {"type": "string", "enum": ["OFF", "TIMESTAMPS"]}},
        trace_rate=_TEXT, trace_count=_TEXT,
    ),
    "Logging": _object(
        log_info={"type": "boolean"}, log_warning={"type": "boolean"}, log_error={"type": "boolean"},
        log_verbose_level={"type": "integer", "minimum": 0, "maximum": 9},
    ),
    "Labels": _object(
        ("rows",),
        rows={
            **_list(
                _object(
                    ("predicted", "label"),
                    predicted=_CLASS,
                    label=_CLASS,
                    confidence={"type": "number", "minimum": 0, "maximum": 1},
                )
            ),
            "maxItems": MAX_ROWS,
        },
    ),
    "IndexRequest": _object(ready={"type": "boolean"}),
    "RepositoryIndex": _list(
        _object(("name", "state", "reason"), name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT)
    ),
    "RepositoryRequest": _object(parameters={"type": "object"}),
}  # fmt: skip

_REFUSED = {
    "400": "The request is malformed or does not fit",
    "401": "A token is needed",
    "403": "Answered on the admin listener only",
    "404": "There is no such model or version",
    "413": "Too large",
    "415": "An unknown Content-Encoding",
    "500": "The model failed",
    "503": "Not now; Retry-After says when",
    "504": "The deadline is over",
}


@functools.cache
def describe(*, admin: bool) -> bytes:
    """Return the description as JSON: of an admin listener, or of one that serves data."""
    about = server_metadata(())
    document = {
        "openapi": "3.0.3",
        "info": {"title": about["name"], "version": about["version"], "license": {"name": "Apache-2.0"}},
        "paths": {each.path: _path(each, admin=admin) for each in RESOURCES if _served(each, admin=admin)},
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    return msgspec.json.encode(document)


def _operations(resource: Resource, *, admin: bool) -> dict[str, Operation]:
    both = {"get": resource.get, "post": resource.post}
    return {method: found for method, found in both.items() if found is not None and (admin or not found.admin)}


def _served(resource: Resource, *, admin: bool) -> bool:
    return bool(_operations(resource, admin=admin))


def _path(resource: Resource, *, admin: bool) -> Schema:
    variables = [name for name in _VARIABLES if f"{{{name}}}" in resource.path]
    found = _operations(resource, admin=admin)
    described: Schema = {method: _operation(each, resource, method) for method, each in found.items()}
    if variables:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "description": _VARIABLES[name], "schema": _TEXT}
            for name in variables
        ]
    return described


def _operation(operation: Operation, resource: Resource, method: str) -> Schema:
    responses: Schema = {"200": {"description": "OK", "content": _content(operation.answer)}}
    for status, description in _REFUSED.items():
        responses[status] = {"description": description, "content": _content("Error")}
    described: Schema = {
        "operationId": f"{method}:{resource.path}",
        "summary": operation.summary,
        "responses": responses,
    }
    if operation.body is not None:
        required = operation.name in {"infer", "labels"}
        described["requestBody"] = {"required": required, "content": _content(operation.body)}
    return described


def _content(schema: str) -> Schema:
    if schema == "Text":
        return {"text/plain": {"schema": _TEXT}}
    content: Schema = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    if schema in {"InferenceRequest", "InferenceResponse"}:
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    return content
