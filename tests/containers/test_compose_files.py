"""What docker-compose.yml, the override for the host's network and the Dockerfile promise.

Read as files, so this holds on machines without an engine too.
"""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# The processes of one store; `smoke` is the journey against them and runs when asked.
SERVICES = [
    "kafka",
    "minio",
    "gcs",
    "gateway",
    "worker-aws",
    "worker-gcp",
    "worker-onprem",
    "feeds",
]
OURS = SERVICES[3:]


# YAML with Compose's own tag, which takes a value of the first file away. The library has no types.
yaml: Any = import_module("yaml")
LOADER: Any = type("Loader", (yaml.SafeLoader,), {})
LOADER.add_constructor("!reset", lambda loader, node: None)


def read(name: str) -> dict[str, Any]:
    """A compose file."""
    found: dict[str, Any] = yaml.load((ROOT / name).read_text("utf-8"), LOADER)
    return found


@pytest.mark.parametrize("name", [*SERVICES, "smoke"])
def test_every_service_is_bounded_and_can_do_no_harm(name: str) -> None:
    """Goal: limits, no capabilities, a read-only file system, a volume or nothing to write to."""
    service = read("docker-compose.yml")["services"][name]
    for limit in ("mem_limit", "cpus", "pids_limit", "stop_grace_period"):
        assert service[limit], limit
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert service["restart"] == ("no" if name == "smoke" else "unless-stopped")


def test_services_wait_for_what_they_need_to_be_healthy() -> None:
    """Goal: no start that fails and is tried again. Method: conditions of depends_on."""
    services = read("docker-compose.yml")["services"]
    for name in OURS:
        needed = {"kafka", "minio", "gcs"} | (set() if name == "gateway" else {"gateway"})
        assert services[name]["depends_on"] == {
            other: {"condition": "service_healthy"} for other in needed
        }, name


def test_images_are_pinned_and_of_one_version_with_the_package() -> None:
    """Goal: what runs is what was tested. Method: no `latest`, no image without a tag."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    for name, service in read("docker-compose.yml")["services"].items():
        assert service["image"].endswith(f":${{TIDESTORE_VERSION:-{version}}}"), name
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    for base in re.findall(r"^ARG (?:BASE|GO_BASE)=(\S+)", dockerfile, re.MULTILINE):
        assert re.search(r":\d+\.\d+", base), base
    assert ":latest" not in dockerfile


def test_every_image_of_the_compose_file_is_a_target_with_a_user_and_a_health_check() -> None:
    """Goal: one Dockerfile makes all. Method: look into the stage of each target."""
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)[1:]
    by_name = {stage.split("\n", 1)[0].rsplit(" AS ", 1)[-1]: stage for stage in stages}
    for name, service in read("docker-compose.yml")["services"].items():
        stage = by_name[service["build"]["target"]]
        assert "\nUSER 10001:10001\n" in stage, name
        assert "\nHEALTHCHECK " in stage, name


def test_no_secret_stands_in_a_compose_file() -> None:
    """Goal: secrets come from .env, which is never committed.

    Method: each is a reference that ends the start when it is missing.
    """
    for name, service in read("docker-compose.yml")["services"].items():
        for key, value in service.get("environment", {}).items():
            if re.search("TOKEN|KEY|USER|PASSWORD", key):
                assert value == f"${{{key}:?run docker/make-env first}}", (name, key)
    ignored = (ROOT / ".gitignore").read_text("utf-8").split()
    assert ".env" in ignored


def test_the_override_puts_every_service_on_the_hosts_loopback() -> None:
    """Goal: nothing listens beyond loopback there.

    Method: each service is overridden; no address is a wildcard; published ports are gone.
    """
    services = read("docker/compose.host.yml")["services"]
    assert services.keys() == read("docker-compose.yml")["services"].keys()
    for name, service in services.items():
        assert service["network_mode"] == "host", name
        assert "0.0.0.0" not in str(service), name
        if "ports" in read("docker-compose.yml")["services"][name]:
            assert service["ports"] is None, name


def test_ports_are_published_on_loopback_alone() -> None:
    """Goal: a try on a laptop is not open to its network."""
    for name, service in read("docker-compose.yml")["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
