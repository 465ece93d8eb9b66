"""Start of the Kafka image: the broker that `tidestore run` embeds, reachable by other containers.

After an unclean stop a counter in the shared folder grows, before the broker listens. Processes of
the store read it when they start: then they read everything again, because a tail of the log may be
gone (design point 10).
"""  # noqa: INP001  a program in an image, not a part of the package

from __future__ import annotations

import os
import sys
from pathlib import Path

from tidestore.local.kafka_server import KafkaServer

CACHE = Path("/opt/kafka")
DATA = Path("/var/lib/kafka")


def new_server() -> KafkaServer:
    """The broker as the environment describes it."""
    return KafkaServer(
        DATA,
        CACHE,
        int(os.environ.get("KAFKA_PORT", "9092")),
        int(os.environ.get("KAFKA_CONTROLLER_PORT", "9093")),
        listen=os.environ.get("KAFKA_LISTEN", "0.0.0.0"),
        advertised=os.environ.get("KAFKA_ADVERTISED", "kafka"),
    )


def _count_unclean_stop() -> None:
    noted = Path(os.environ.get("KAFKA_UNCLEAN_FILE", "/var/lib/broker/unclean_stops"))
    count = int(noted.read_text("utf-8")) if noted.exists() else 0
    temporary = noted.with_suffix(".new")
    temporary.write_text(f"{count + 1}\n", "utf-8")
    temporary.replace(noted)
    sys.stderr.write(f"Kafka was not stopped cleanly, {count + 1} times so far\n")


def main() -> None:
    """Prepare the folder, then become the broker."""
    server = new_server()
    if server.prepare():
        _count_unclean_stop()
    command = server.command()
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
