"""The description of the HTTP part by OpenAPI 3.1, made of the routes and of the types that they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from nldf_engine.apps.server.edits import BODIES, POSES
from nldf_engine.apps.server.sessions import Wish
from nldf_engine.base.version import __version__

F = TypeVar("F", bound=Callable[..., Any])
ALWAYS = (401, 403, 429)
"""What the guard may answer to any request."""
ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


@dataclass(frozen=True)
class Operation:
    """What a handler says of itself.

    Args:
        summary: in a line.
        body, answer: names in `schemas`, or empty.
        status: of success.
        problems: statuses of failures, beside those of the guard.
        kind: media type of the answer.
    """

    summary: str
    body: str = ""
    answer: str = ""
    status: int = 200
    problems: tuple[int, ...] = ()
    kind: str = "application/json"


def described(summary: str, **more: Any) -> Callable[[F], F]:
    """Notes an `Operation` at a handler."""

    def note(handler: F) -> F:
        handler.operation = Operation(summary, **more)  # type: ignore[attr-defined]
        return handler

    return note


def schemas() -> dict[str, Any]:
    """JSON schemas by name: those of the dataclasses, and of plain values."""
    kinds: list[Any] = [Wish, *BODIES.values()]
    made, parts = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    for part in parts.values():
        part["additionalProperties"] = part.get("additionalProperties", False)
    number, text = {"type": "number"}, {"type": "string"}
    edits = dict(zip(BODIES, made[1:], strict=True))
    anything = {"type": "object"}
    return {
        **parts,
        "wish": made[0],
        "edit": {"type": "object", "properties": edits, "additionalProperties": False},
        "background": {"type": ["string", "null"], "maxLength": 64},
        "poses": {"enum": list(POSES)},
        "problem": {"type": "object", "properties": {"problem": text}, "required": ["problem"]},
        "health": {"type": "object", "properties": {"ready": {"type": "boolean"}, "workers": number}},
        "avatars": {"type": "object", "additionalProperties": anything},
        "session": {"type": "object", "properties": {"id": text, "latency": number}, "required": ["id"]},
        "sessions": {"type": "array", "items": {"$ref": "#/components/schemas/session"}},
        "said": {"type": "object", "properties": {"seconds": number, "room": number}},
        "stopped": {"type": "object", "properties": {"epoch": number, "position": number, "dropped": number}},
        "description": {
            "type": "object", "properties": {"sdp": text, "type": {"enum": ["offer", "answer"]}},
            "required": ["sdp", "type"], "additionalProperties": False,
        },
    }  # fmt: skip


BINARY = {"sound": "application/octet-stream", "sdp": "application/sdp"}
"""Bodies that are no JSON."""


def _content(name: str) -> dict[str, Any]:
    if name in BINARY:
        return {BINARY[name]: {"schema": {}}}
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _operation(said: Operation, path: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(said.status).phrase}
    if said.answer:
        answer["content"] = _content(said.answer)
    elif said.status != 204:
        answer["content"] = {said.kind: {"schema": {}}}
    problems = {
        str(status): {"description": HTTPStatus(status).phrase, "content": _content("problem")}
        for status in (*said.problems, *ALWAYS)
    }
    if path == "/health":  # it says how it is by the same object
        problems["503"] = {"description": "no worker is ready", "content": _content("health")}
    made: dict[str, Any] = {"summary": said.summary, "responses": {str(said.status): answer, **problems}}
    if said.body:
        made["requestBody"] = {"content": _content(said.body), "required": said.body != "wish"}
    if "{id}" in path:
        made["parameters"] = [ID]
    return made


def document(app: web.Application) -> dict[str, Any]:
    """The OpenAPI document of an application's routes."""
    paths: dict[str, Any] = {}
    for route in app.router.routes():
        said = getattr(route.handler, "operation", None)
        if said is None or route.method == "HEAD" or route.resource is None:
            continue
        path = route.resource.canonical
        paths.setdefault(path, {})[route.method.lower()] = _operation(said, path)
    return {
        "openapi": "3.1.0",
        "info": {"title": "nldf serve", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }
