"""The description of the API in OpenAPI 3.1, and an HTML page made of it, without scripts or external files."""

from __future__ import annotations

import html
import json
from typing import Any

_ERRORS = {
    "400": "top_k, the form or the HTTP request is invalid",
    "401": "an API key is needed",
    "403": "the origin of the page is not allowed",
    "408": "the request was not complete in time",
    "411": "the body is sent in chunks",
    "413": "the body is too large",
    "415": "the content type is not that of an image, or the body is compressed",
    "421": "the host in the Host header is not allowed",
    "422": "the file is not an image, damaged, or has too many pixels",
    "429": "overloaded; retry after the seconds in Retry-After",
    "502": "the inference server failed",
    "503": "the inference server cannot be reached, or the model is not ready",
    "504": "the inference server did not answer in time",
}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


_TEXT = {"type": "string"}
_BINARY = {"type": "string", "format": "binary"}
_BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": _BINARY},
        "application/octet-stream": {"schema": _BINARY},
        "multipart/form-data": {"schema": {**_object(image=_BINARY), "required": ["image"]}},
    },
}
_TOP_K = {
    "name": "top_k",
    "in": "query",
    "description": "number of classes, the most probable first",
    "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 5},
}
_PREDICTION = _object(
    index={"type": "integer"}, label=_TEXT, probability={"type": "number", "minimum": 0, "maximum": 1}
)
_CLASSIFICATION = _object(model=_TEXT, model_version=_TEXT, predictions={"type": "array", "items": _PREDICTION})
_FEATURES = _object(model=_TEXT, features={"type": "array", "items": {"type": "number"}})


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _of_image(summary: str, answer: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    errors = {status: {"$ref": f"#/components/responses/{status}"} for status in _ERRORS}
    return {
        "post": {
            "summary": summary,
            "parameters": list(parameters),
            "requestBody": _BODY,
            "responses": {"200": answer, **errors},
            "security": [{}, {"bearer": []}, {"key": []}],
        }
    }


def _of_status(summary: str, *errors: str) -> dict[str, Any]:
    refused = {status: {"$ref": f"#/components/responses/{status}"} for status in errors}
    return {"get": {"summary": summary, "responses": {"200": _json("yes", _object(status=_TEXT)), **refused}}}


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "ResNet-50 gateway", "version": "1"},
    "paths": {
        "/v1/classify": _of_image("Classify an image", _json("the most probable classes", _CLASSIFICATION), _TOP_K),
        "/v1/embed": _of_image("Return the 2048 features of an image", _json("the features", _FEATURES)),
        "/healthz": _of_status("Whether the gateway runs"),
        "/readyz": _of_status("Whether the model answers", "429", "503"),
    },
    "components": {
        "responses": {status: _json(description, _object(error=_TEXT)) for status, description in _ERRORS.items()},
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        },
    },
}

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ margin: 0 auto; padding: 2rem 1rem; max-width: 46rem; font: 16px/1.5 system-ui, sans-serif; }}
  pre {{ overflow-x: auto; }} td {{ padding-right: 1rem; vertical-align: top; }}
</style>
<h1>{title}</h1>
<p><a href="openapi.json">openapi.json</a></p>
<pre>curl --data-binary @cat.jpg 'localhost:8080/v1/classify?top_k=1'
curl -F image=@cat.jpg localhost:8080/v1/embed</pre>
{operations}</html>
"""
_OPERATION = """<h2><code>{method} {path}</code></h2><p>{summary}</p>
<table>{rows}</table>
"""


def page() -> str:
    """Return the document as HTML."""
    operations = [
        _OPERATION.format(method=method.upper(), path=path, summary=operation["summary"], rows=_rows(operation))
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]
    return _PAGE.format(title=DOCUMENT["info"]["title"], operations="".join(operations))


def _rows(operation: dict[str, Any]) -> str:
    rows = [
        (parameter["name"], f"{parameter['description']} {json.dumps(parameter['schema'])}")
        for parameter in operation.get("parameters", [])
    ]
    rows += [("body", kind) for kind in operation.get("requestBody", {}).get("content", {})]
    for status, response in operation["responses"].items():
        rows.append((status, response.get("description") or _ERRORS[status]))
    return "".join(f"<tr><td><code>{html.escape(name)}</code><td>{html.escape(about)}" for name, about in rows)
