"""How we speak to Kafka: one set of settings, one set of errors, for all clients of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import ClassVar, Final

from confluent_kafka import KafkaError, KafkaException

from tidestore.connectors.credentials import Secret

ClientSettings = dict[str, str | int | float | bool]

LOGGER: Final = logging.getLogger("tidestore.kafka")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """A cluster and how to reach it. `security` holds librdkafka's own names (sasl.*, ssl.*)."""

    bootstrap: str
    client_id: str = "tidestore"
    security: dict[str, str] = field(default_factory=dict)
    password: Secret = field(default_factory=lambda: Secret(""))
    # Grows when a lone broker was stopped without a clean shutdown: then a tail of the log may be
    # gone and refilled, and everything read so far must be read again (design point 10).
    unclean_stops: int = 0

    def client(self, more: ClientSettings | None = None) -> ClientSettings:
        """The configuration of a librdkafka client."""
        base: ClientSettings = {
            "bootstrap.servers": self.bootstrap,
            "client.id": self.client_id,
            # A broker that restarts is looked for again quickly, and not at a fixed beat.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "socket.keepalive.enable": True,
            "log.connection.close": False,
            **self.security,
        }
        if self.password:
            base["sasl.password"] = self.password.reveal()
        base.update(more or {})
        return base

    def group(self, name: str) -> str:
        """A consumer group's name.

        After an unclean stop of a lone broker it is another one, which reads from the start: a tail
        that was cut and refilled may hold records below the old group's offsets (point 10).
        """
        return name if not self.unclean_stops else f"{name}.u{self.unclean_stops}"


class LogError(Exception):
    """The log could not be written or read."""

    is_retryable: ClassVar[bool] = False


class LogUnavailableError(LogError):
    """No broker answered in time. The outcome of a write is unknown: writing again is safe."""

    is_retryable = True


class LogClosedError(LogUnavailableError):
    """The topic takes no more records: the log has moved to a new generation, or is moving.

    Writing again is right, once this process has gone over. See docs/migration.md.
    """


class LogRefusedError(LogError):
    """The broker refused for good: authorization, size, or a topic that is not there."""


_PASSING: Final = frozenset(
    {
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._RESOLVE,
        KafkaError._WAIT_COORD,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError._NOENT,
    }
)


def translate_kafka(error: KafkaError | KafkaException) -> LogError:
    """Librdkafka's error as ours."""
    reason: KafkaError = error.args[0] if isinstance(error, KafkaException) else error
    text = f"{reason.name()}: {reason.str()}"
    if reason.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        # The codec refuses what is too large long before: this is a topic that was closed.
        return LogClosedError(f"the topic is closed ({text})")
    if reason.code() in _PASSING or reason.retriable() or reason.fatal():
        return LogUnavailableError(text)
    return LogRefusedError(text)


class QuietLogger(logging.Logger):
    """Takes librdkafka's own lines: what it repeats twenty times a second is said once a minute."""

    def __init__(self, seconds: float = 60.0) -> None:
        super().__init__("tidestore.rdkafka")
        self._seconds = seconds
        self._said: dict[str, float] = {}

    def handle(self, record: logging.LogRecord) -> None:
        """Pass a record on unless its like was said a moment ago."""
        if record.levelno < logging.WARNING:
            return
        like = "".join(ch for ch in record.getMessage() if not ch.isdigit())[:200]
        if record.created - self._said.get(like, 0.0) < self._seconds:
            return
        if len(self._said) > 200:  # bounded: forgetting only means saying something twice
            self._said.clear()
        self._said[like] = record.created
        LOGGER.handle(record)
