"""The embedded Kafka, as the product runs it, for tests."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.servers.processes import Process, free_port
from tidestore.local.download import fetch_all
from tidestore.local.kafka_server import KafkaServer
from tidestore.local.layout import cache_folder


class TestKafka:
    """One broker with its data; survives kill and start."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self._server = KafkaServer(folder, cache_folder(os.environ), self.port, free_port())
        fetch_all(self._server.jars(), lambda _: None)
        self.process = Process(
            "kafka", self._server.command(), folder / "kafka.log", is_ready=self._answers
        )

    @property
    def bootstrap(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """The folder with its log segments."""
        return self.folder / "data"

    def start(self) -> bool:
        """Start it; whether it found that its last stop was unclean."""
        is_unclean = self._server.prepare()
        self.process.start()
        return is_unclean

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False
