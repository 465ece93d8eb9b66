"""Topics as they must be: created where missing, compared where they exist.

Every process does this at its start. A topic with other settings than the design's can lose data
without a word (compacted too early, truncated, reordered), so a difference is refused, with the
command that mends it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from tidestore.connectors.kafka import (
    KafkaSettings,
    LogError,
    QuietLogger,
    translate_kafka,
)
from tidestore.schemas.topics import BYTES_SETTING, CLOSED_BYTES, TopicSpec

_REQUEST_SECONDS: Final = 15


class TopicMismatchError(LogError):
    """A topic exists with other settings than it must have; the text says how to mend it."""


async def provision(settings: KafkaSettings, specs: list[TopicSpec], *, replication: int) -> None:
    """Create the topics that are missing and check all others.

    Raises TopicMismatchError with one line and one command per difference, LogError when the
    cluster cannot be asked.
    """
    await asyncio.to_thread(_provision, settings, specs, replication)


async def check_topics(settings: KafkaSettings, specs: list[TopicSpec]) -> list[str]:
    """Check the topics that exist and create none; the names of those that do not exist."""

    def check() -> list[str]:
        admin = AdminClient(settings.client(), logger=QuietLogger())
        try:
            known = admin.list_topics(timeout=_REQUEST_SECONDS).topics
            _check(admin, [spec for spec in specs if spec.name in known], settings.bootstrap)
        except KafkaException as error:
            raise translate_kafka(error) from None
        return [spec.name for spec in specs if spec.name not in known]

    return await asyncio.to_thread(check)


def _provision(settings: KafkaSettings, specs: list[TopicSpec], replication: int) -> None:
    admin = AdminClient(settings.client(), logger=QuietLogger())
    try:
        known = admin.list_topics(timeout=_REQUEST_SECONDS).topics
        missing = [spec for spec in specs if spec.name not in known]
        _create(admin, missing, replication)
        created = {spec.name for spec in missing}
        _check(admin, [spec for spec in specs if spec.name not in created], settings.bootstrap)
    except KafkaException as error:
        raise translate_kafka(error) from None


def _create(admin: AdminClient, specs: list[TopicSpec], replication: int) -> None:
    if not specs:
        return
    wanted = [
        NewTopic(spec.name, spec.partitions, replication, config=spec.settings) for spec in specs
    ]
    for future in admin.create_topics(wanted, request_timeout=_REQUEST_SECONDS).values():
        try:
            future.result()
        except KafkaException as error:
            # Another process of ours starts at the same time and was first: same settings.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def _check(admin: AdminClient, specs: list[TopicSpec], bootstrap: str) -> None:
    if not specs:
        return
    names = TopicCollection([spec.name for spec in specs])
    described = admin.describe_topics(names, request_timeout=_REQUEST_SECONDS)
    resources = [ConfigResource(ResourceType.TOPIC, spec.name) for spec in specs]
    configs = admin.describe_configs(resources, request_timeout=_REQUEST_SECONDS)
    by_name = {resource.name: future.result() for resource, future in configs.items()}
    found = []
    for spec in specs:
        partitions = len(described[spec.name].result().partitions)
        if partitions < spec.partitions or (partitions > spec.partitions and not spec.may_be_wider):
            found.append(
                f"{spec.name} has {partitions} partitions, not {spec.partitions}: the number is "
                "fixed for a log generation; set [kafka] partitions to what the log was made with"
            )
        for name, value in spec.settings.items():
            actual = by_name[spec.name][name].value
            if (name, actual) == (BYTES_SETTING, CLOSED_BYTES):
                # Closed by a move to another log generation that is under way: whoever starts now
                # reads, waits, and goes over. To open it by hand would lose what is written then.
                continue
            if actual != value:
                found.append(
                    f"{spec.name}: {name} is {actual}, not {value}; mend it with: "
                    f"kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics "
                    f"--entity-name {spec.name} --add-config {name}={value}"
                )
    if found:
        raise TopicMismatchError("\n".join(found))


def topic_ids(settings: KafkaSettings, names: list[str]) -> dict[str, str]:
    """The cluster's own id of each topic: another id under the same name is another topic.

    Blocks for up to 15 s; raises LogError.
    """
    admin = AdminClient(settings.client(), logger=QuietLogger())
    try:
        asked = admin.describe_topics(TopicCollection(names), request_timeout=_REQUEST_SECONDS)
        return {name: str(future.result().topic_id) for name, future in asked.items()}
    except KafkaException as error:
        raise translate_kafka(error) from None
