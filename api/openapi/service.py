"""All other paths: tasks, hooks, the schema registry, health, this description."""

from __future__ import annotations

from tidestore.api.openapi.parts import (
    DATASET_PARAMETER,
    TEXT,
    TOKEN_NEEDED,
    TOKEN_OPTIONAL,
    Json,
    answer,
    path,
    problems,
    ref,
)

_REGISTRY_TYPE = "application/vnd.schemaregistry.v1+json"
_WHOLE_NUMBER: Json = {"type": "integer", "minimum": 1}


def service_paths() -> Json:
    """The operations by path and method."""
    return {**_about(), **_tasks(), **_hooks(), **_registry()}


def _operation(
    tag: str, name: str, summary: str, responses: Json, parameters: list[Json] | None = None
) -> Json:
    return {
        "tags": [tag],
        "operationId": name,
        "summary": summary,
        "security": [],
        "parameters": parameters or [],
        "responses": {**responses, **problems()},
    }


def _about() -> Json:
    status = {"type": "object", "required": ["status"], "properties": {"status": TEXT}}

    def page(media: str, description: str) -> Json:
        return {"200": {"description": description, "content": {media: {"schema": {}}}}}

    found = {
        "/healthz": _operation(
            "service", "health", "Whether this process serves.", {"200": answer("Yes.", status)}
        ),
        "/readyz": _operation(
            "service",
            "ready",
            "Whether this gateway knows the log's end, so that it can answer truly.",
            {"200": answer("Yes.", status), **problems(503)},
        ),
        "/metrics": _operation(
            "service", "metrics", "Prometheus text.", page("text/plain", "All metrics.")
        ),
        "/openapi.json": _operation(
            "service", "openapi", "This description.", page("application/json", "OpenAPI 3.1.")
        ),
        "/docs": _operation(
            "service", "docs", "This description for people.", page("text/html", "A page.")
        ),
    }
    return {path: {"get": operation} for path, operation in found.items()}


def _tasks() -> Json:
    task_id = path("task_id", {"type": "string", "pattern": "^[0-9a-f]{32}$"}, "As 202 gave it.")
    responses = {"200": answer("The task.", ref("Task"), "Retry-After")}
    operation = _operation(
        "service",
        "getTask",
        "A long write: state, progress, cause of failure.",
        responses,
        [task_id],
    )
    operation["security"] = TOKEN_OPTIONAL
    operation["responses"].update(problems(401, 403, 404, 503))
    return {"/v1/tasks/{task_id}": {"get": operation}}


def _hooks() -> Json:
    hook_id = path("hook_id", TEXT, "The hook's id.")

    def needs_token(operation: Json, *statuses: int) -> Json:
        operation["security"] = TOKEN_NEEDED
        operation["responses"].update(problems(400, 401, 403, 404, 503, *statuses))
        return operation

    created = {"201": answer("Made; shows the secret that was made.", ref("Hook"), "Location")}
    many = {"200": answer("The hooks.", {"type": "array", "items": ref("Hook")})}
    one = {"200": answer("The hook.", ref("Hook"))}
    gone = {"204": answer("Removed; nothing more is sent to it.", None)}
    post = _operation("hooks", "createHook", "Register a hook.", created, [DATASET_PARAMETER])
    body = {"application/json": {"schema": ref("NewHook")}}
    post["requestBody"] = {"required": True, "content": body}
    listing = _operation("hooks", "listHooks", "The hooks of a dataset.", many, [DATASET_PARAMETER])
    both = [hook_id, DATASET_PARAMETER]
    pinged = {"204": answer("On its way; the hook's last_response says what came of it.", None)}
    ping = _operation("hooks", "pingHook", "Send one ping now.", pinged, both)
    return {
        "/v1/hooks": {
            "post": needs_token(post, 408, 413, 415, 422, 429),
            "get": needs_token(listing),
        },
        "/v1/hooks/{hook_id}": {
            "get": needs_token(_operation("hooks", "getHook", "One hook.", one, both)),
            "delete": needs_token(_operation("hooks", "deleteHook", "Remove it.", gone, both)),
        },
        "/v1/hooks/{hook_id}/pings": {"post": needs_token(ping, 429)},
    }


def _registry() -> Json:
    def reply(description: str, schema: Json) -> Json:
        return {"description": description, "content": {_REGISTRY_TYPE: {"schema": schema}}}

    missing = {"404": reply("There is none.", ref("RegistryError"))}
    refused = {"403": reply("Read-only: schemas come with a release.", ref("RegistryError"))}
    numbers = {"type": "array", "items": _WHOLE_NUMBER}
    subject = path("subject", TEXT, "One per record.")
    version = path("version", TEXT, "A number, or `latest`.")
    schema_id = path("id", _WHOLE_NUMBER, "As records carry it.")
    pair = {"type": "object", "required": ["subject", "version"]}
    names = {"type": "array", "items": TEXT}
    level = {"type": "object", "required": ["compatibilityLevel"]}

    def get(name: str, summary: str, schema: Json, *parameters: Json) -> Json:
        found = {"200": reply("Found.", schema), **(missing if parameters else {})}
        return _operation("registry", name, summary, found, list(parameters))

    def post(name: str, summary: str) -> Json:
        return _operation("registry", name, summary, refused, [subject])

    base = "/registry"
    return {
        f"{base}/schemas/ids/{{id}}": {
            "get": get("schemaById", "A schema by id.", ref("RegistrySchema"), schema_id)
        },
        f"{base}/schemas/ids/{{id}}/versions": {
            "get": get(
                "versionsOfId", "Where an id is known.", {"type": "array", "items": pair}, schema_id
            )
        },
        f"{base}/subjects": {"get": get("subjects", "All subjects.", names)},
        f"{base}/subjects/{{subject}}": {"post": post("lookUpSchema", "Refused.")},
        f"{base}/subjects/{{subject}}/versions": {
            "get": get("subjectVersions", "The versions of a subject.", numbers, subject),
            "post": post("registerSchema", "Refused: registering."),
        },
        f"{base}/subjects/{{subject}}/versions/{{version}}": {
            "get": get("subjectVersion", "One version.", ref("RegistryVersion"), subject, version)
        },
        f"{base}/config": {"get": get("registryConfig", "The compatibility level.", level)},
    }
