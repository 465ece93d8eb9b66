"""Fetch the pinned Kafka jars into the image, each checked by its sha256, as `tidestore run` does."""  # noqa: INP001, E501

from __future__ import annotations

from pathlib import Path

from tidestore.local.download import fetch_all
from tidestore.local.kafka_server import KafkaServer

if __name__ == "__main__":
    fetch_all(KafkaServer(Path("/nowhere"), Path("/opt/kafka"), 0, 0).jars(), lambda _: None)
