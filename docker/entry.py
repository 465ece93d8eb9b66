"""Start of the tidestore image: make the configuration, then become the process that was asked for.

1. A process of the store waits for Kafka, so that what Kafka noted about its last stop is there.
2. The template is filled in from the environment. Secrets stay in the environment: the
   configuration only names them.
3. What healthy.py has to look at is noted.
"""  # noqa: INP001  a program in an image, not a part of the package

from __future__ import annotations

import argparse
import json
import os
import socket
import string
import sys
import time
from pathlib import Path

TEMPLATE = Path("/etc/tidestore/tidestore.toml")
FOLDER = Path("/run/tidestore")
# Kafka reads its whole log after an unclean stop; the engine starts us again if this is too short.
_BROKER_SECONDS_MAX = 120.0
_SERVICES = frozenset({"gateway", "worker", "feeds"})


def _await_broker(bootstrap: str) -> None:
    """Wait until one of the brokers accepts a connection."""
    places = [place.strip().rpartition(":") for place in bootstrap.split(",")]
    deadline = time.monotonic() + _BROKER_SECONDS_MAX
    while True:
        for host, _, port in places:
            try:
                with socket.create_connection((host, int(port)), timeout=2):
                    return
            except OSError:
                continue
        if time.monotonic() > deadline:
            sys.exit(f"tidestore: no Kafka at {bootstrap} after {_BROKER_SECONDS_MAX:.0f} s")
        time.sleep(0.2)


def _unclean_stops() -> str:
    """How often the broker of this compose file stopped uncleanly; see docker/kafka.py."""
    noted = os.environ.get("KAFKA_UNCLEAN_FILE", "")
    return Path(noted).read_text("utf-8").strip() if noted and Path(noted).exists() else "0"


def _write_config() -> None:
    template = string.Template(TEMPLATE.read_text("utf-8"))
    try:
        text = template.substitute({**os.environ, "KAFKA_UNCLEAN_STOPS": _unclean_stops()})
    except (KeyError, ValueError) as error:
        sys.exit(f"tidestore: {TEMPLATE} needs the environment variable {error}")
    (FOLDER / "tidestore.toml").write_text(text, "utf-8")


def _note_health(arguments: list[str]) -> None:
    from tidestore.config import ConfigError, read_config  # noqa: PLC0415  after the file is there

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--id", default="0")
    parser.add_argument("--port", type=int)
    known, rest = parser.parse_known_args(arguments[1:])
    try:
        config = read_config(FOLDER / "tidestore.toml", os.environ)
        if arguments[0] == "gateway":
            host = "127.0.0.1" if config.host in ("0.0.0.0", "::") else config.host
            note = {"url": f"http://{host}:{known.port or config.port}/readyz"}
        else:
            group = f"{config.topics.prefix}feeds"
            if arguments[0] == "worker":
                replica = config.worker(rest[0]).replica
                group = f"{config.topics.prefix}replicate.{replica.name}.{replica.incarnation}"
            if config.kafka.unclean_stops:
                group += f".u{config.kafka.unclean_stops}"
            note = {
                "client": config.kafka.client(),
                "group": group,
                "member": f"{group}-{known.id}",
            }
    except ConfigError as error:
        sys.exit(f"tidestore: {error}")
    path = FOLDER / "health.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(note), "utf-8")


def main(arguments: list[str]) -> None:
    """Prepare, then become `tidestore ARGUMENTS`."""
    is_service = bool(arguments) and arguments[0] in _SERVICES
    if is_service and "KAFKA_BOOTSTRAP" in os.environ:
        _await_broker(os.environ["KAFKA_BOOTSTRAP"])
    if TEMPLATE.exists():
        _write_config()
        if is_service:
            _note_health(arguments)
    # `--config` is tidestore.toml in the working folder unless somebody says otherwise.
    os.chdir(FOLDER)
    os.execv(sys.executable, [sys.executable, "-m", "tidestore", *arguments])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
