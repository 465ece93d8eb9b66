"""scripts/setup names what is missing, with the line that installs it; stubs stand in for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def refused(folder: Path, python: str) -> str:
    """A setup that must fail: what it says. Of programs, only those of the shell are there."""
    for name in ("rm", "basename", "grep"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "scripts/setup")], cwd=folder, check=False, timeout=30,
        env={
            "PATH": str(folder), "PYTHON": python, "UV_VERSION": "0.0.0",
            "VENV": str(folder / "venv"), "TOOLS": str(folder / "tools"),
        },
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert not (folder / "venv").exists()
    assert not (folder / "tools").exists(), "nothing half made is left for the next try"
    return done.stderr


def stub(folder: Path, body: str) -> str:
    """A Python of ours: a shell script."""
    path = folder / "python-stub"
    path.write_text(f"#!/bin/sh\n{body}\n", "utf-8")
    path.chmod(0o755)
    return str(path)


def test_no_python_is_named_with_the_line_that_installs_it(tmp_path: Path) -> None:
    """Goal: a machine without Python says so. Method: a name that nothing has."""
    said = refused(tmp_path, "python-nowhere")
    assert "python-nowhere is not here" in said
    assert "apt-get install python3 python3-venv" in said


def test_an_old_python_is_named_with_its_version(tmp_path: Path) -> None:
    """Goal: an old Python says so. Method: one that fails the check and tells its version."""
    said = refused(
        tmp_path, stub(tmp_path, 'case "$1" in -V) echo Python 3.9.2;; *) exit 1;; esac')
    )
    assert "needs Python 3.11 or newer" in said
    assert "Python 3.9.2" in said
    assert "make setup PYTHON=" in said


def test_a_python_without_venv_is_named_with_its_package(tmp_path: Path) -> None:
    """Goal: Debian's Python without venv says which package has it. Method: `-m venv` fails."""
    body = 'case "$1$2" in -mvenv) exit 1;; *print*) echo 3.12;; esac'
    said = refused(tmp_path, stub(tmp_path, body))
    assert "no venv" in said
    assert "apt-get install python3.12-venv" in said


def test_no_network_is_named_with_what_to_set(tmp_path: Path) -> None:
    """Goal: a first start without the internet says so. Method: a venv whose pip fails."""
    body = (
        'if [ "$2" = venv ]; then\n'
        '  /bin/mkdir -p "$3/bin"\n'
        "  printf '#!/bin/sh\\nexit 1\\n' > \"$3/bin/python\"\n"
        '  /bin/chmod +x "$3/bin/python"\n'
        "fi"
    )
    place = tmp_path / "machine"
    place.mkdir()
    python = stub(place, body)
    for name in ("rm", "basename", "grep"):
        (place / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "scripts/setup")], cwd=place, check=False, timeout=30,
        env={
            "PATH": str(place), "PYTHON": python, "UV_VERSION": "0.0.0",
            "VENV": str(place / "venv"), "TOOLS": str(place / "tools"),
        },
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "needs the internet once" in done.stderr
    assert "HTTPS_PROXY" in done.stderr
