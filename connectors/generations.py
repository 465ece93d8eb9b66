"""Which generation of the log is in use: asked once at a process' start, followed afterwards.

    replicas: !generation/2 open --> topics of generation 2, whatever the configuration file says

A process that learns of a newer one while it runs ends what it does with GenerationMovedError, and
is made anew with the topics of that one (cli/serve.py); a gateway goes over while it serves
(api/front.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from tidestore.connectors.fence import topics_of
from tidestore.connectors.kafka import KafkaSettings, LogUnavailableError
from tidestore.connectors.tail import read_topic
from tidestore.schemas.generations import GenerationChanged, step_ahead, topics_now
from tidestore.schemas.topics import Topics

# A new topic has its leader after a second or so, on a busy machine after many. As long as the
# directory of replicas is waited for, which is on the same topic.
_READ_SECONDS_MAX: Final = 60.0
_PAUSE_SECONDS: Final = 0.2


class GenerationMovedError(Exception):
    """A newer generation of the log is open: begin again with its topics."""


def read_generations(settings: KafkaSettings, topics: Topics) -> list[GenerationChanged]:
    """The newest record of each generation, oldest first. Blocks; raises LogError.

    Others may be making the topic just now: one without a leader is asked again for a moment.
    """
    deadline = time.monotonic() + _READ_SECONDS_MAX
    while True:
        try:
            return _read(settings, topics)
        except LogUnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)


def _read(settings: KafkaSettings, topics: Topics) -> list[GenerationChanged]:
    if topics.replicas not in topics_of(settings):
        return []
    found: dict[int, GenerationChanged] = {}
    for record in read_topic(settings, topics.replicas):
        if isinstance(record.event, GenerationChanged):
            found[record.event.generation] = record.event
    return [found[number] for number in sorted(found)]


async def find_topics(settings: KafkaSettings, topics: Topics) -> Topics:
    """The topics to use now; `topics` are those of the configuration. Raises LogError."""
    return topics_now(topics, await asyncio.to_thread(read_generations, settings, topics))


def find_move(topics: Topics, known: list[GenerationChanged]) -> GenerationChanged | None:
    """The newest generation that is open, if it is a newer one than that of `topics`."""
    return step_ahead(topics, [record for record in known if record.is_open])


def refuse_moved(topics: Topics, known: list[GenerationChanged]) -> None:
    """Raise GenerationMovedError when a newer generation than that of `topics` is open."""
    step = find_move(topics, known)
    if step is not None:
        raise GenerationMovedError(f"log generation {step.generation} is open")


async def run_until_moved(work: Coroutine[Any, Any, None], moved: asyncio.Event) -> None:
    """Run to the end, or raise GenerationMovedError as soon as `moved` is set."""
    running = asyncio.create_task(work)
    waiting = asyncio.create_task(moved.wait())
    try:
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        if moved.is_set():
            raise GenerationMovedError("a newer log generation is open")
        await running
    finally:
        running.cancel()
        waiting.cancel()


def folder_of(folder: Path, topics: Topics) -> Path:
    """Where views of a generation lie: those of two of them may be in use at once."""
    return folder if topics.generation == 1 else folder / f"g{topics.generation}"
