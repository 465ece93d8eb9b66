"""Which path leads where: all routes of the API, to be compared with its description."""

from __future__ import annotations

from aiohttp import web

from tidestore.api import (
    changes,
    commits,
    consumer,
    explain,
    lifts,
    listing,
    parked,
    producer,
    receipts,
    redactions,
    replica_admin,
    schema_registry,
    scrubs,
    status,
)
from tidestore.api.hooks import registry as hooks
from tidestore.api.openapi.routes import get_docs, get_openapi
from tidestore.schemas.objects import Kind


def all_routes() -> list[web.RouteDef]:
    """Every route. GET answers HEAD too."""
    found = [
        web.put("/v1/blobs/{sha256}", producer.put_blob),
        web.put("/v1/files/{uuid}", commits.put_file),
        web.put("/v1/bundles/{uuid}", commits.put_bundle),
        web.put("/v1/collections/{uuid}", commits.put_collection),
        web.get("/v1/replicas", replica_admin.get_replicas),
        web.post("/v1/replicas", replica_admin.add_replica),
        web.get("/v1/replicas/{name}", replica_admin.get_replica),
        web.patch("/v1/replicas/{name}", replica_admin.change_replica),
        web.delete("/v1/replicas/{name}", replica_admin.retire_replica),
        web.get("/v1/replicas/{name}/receipts", receipts.list_receipts),
        web.post("/v1/replicas/{name}/receipts", receipts.report_receipts),
        web.get("/v1/parties", receipts.list_parties),
        web.post("/v1/parties", receipts.invite_party),
        web.get("/v1/parties/{name}", receipts.get_party),
        web.delete("/v1/parties/{name}", receipts.remove_party),
        web.get("/v1/changes", changes.get_changes),
        web.get("/v1/objects", consumer.read_stored),
        web.post("/v1/replicas/{name}/losses", replica_admin.lose_replica),
        web.get("/v1/statements", scrubs.list_statements),
        web.get("/v1/parked", parked.list_parked),
        web.post("/v1/parked/retries", parked.ask_retries),
        web.get("/v1/explanations", explain.explain_key),
        web.post("/v1/redactions/lifts", lifts.lift_redaction),
        web.get("/v1/tasks/{task_id}", status.get_task),
        web.post("/v1/hooks", hooks.create_hook),
        web.get("/v1/hooks", hooks.list_hooks),
        web.get("/v1/hooks/{hook_id}", hooks.get_hook),
        web.delete("/v1/hooks/{hook_id}", hooks.delete_hook),
        web.post("/v1/hooks/{hook_id}/pings", hooks.ping_hook),
        web.get("/healthz", status.healthz),
        web.get("/readyz", status.readyz),
        web.get("/metrics", status.metrics),
        web.get("/openapi.json", get_openapi),
        web.get("/docs", get_docs),
        *schema_registry.registry_routes("/registry"),
    ]
    for kind in Kind:
        base = f"/v1/{kind.plural}"
        one = base + ("/{sha256}" if kind is Kind.BLOB else "/{uuid}")
        found += [
            web.get(base, listing.list_objects(kind)),
            web.get(one, consumer.read_object(kind)),
            web.get(f"{one}/copies", consumer.list_copies(kind)),
            web.delete(one, redactions.redact_object(kind)),
        ]
        if kind is not Kind.BLOB:
            found.append(web.get(f"{one}/versions", consumer.list_versions(kind)))
    return found
