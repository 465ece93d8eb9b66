"""What TIDESTORE_REQUIRE names may not be skipped, misspelt or left out, on one worker or two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.longest import SECONDS, seconds_of

# Sessions of their own, three processes at most, beside whatever else the machine does.
pytestmark = pytest.mark.timeout(180)

_ROOT = Path(__file__).parents[2]
# One file for each of two workers, in the tests' own words.
_ONE = """
import os
def test_one(tally):
    tally.ran("both")
    tally.ran(os.environ["PYTEST_XDIST_WORKER"])
    tally.ran("here")
"""
_OTHER = """
import os, sys
def test_other(tally):
    tally.ran("both")
    tally.ran(os.environ["PYTEST_XDIST_WORKER"])
def test_skipped(tally):
    tally.missing("here", "only there")
"""


def session(
    folder: Path, *words: str, required: str = "", **files: str
) -> subprocess.CompletedProcess[str]:
    """A session of pytest with our rules, on small files; on one process unless words say more."""
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text, "utf-8")
    env = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest",
            "-p", "xdist", "-c", os.devnull, "--rootdir", str(folder),
            "--basetemp", str(folder / "tmp"), *words,
            *(str(folder / f"test_{name}.py") for name in files),
        ],
        cwd=_ROOT, env=env | {"TIDESTORE_REQUIRE": required, "PYTHONPATH": str(_ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("required", "code"), [("", 0), ("no-such-server", 1)])
def test_a_run_without_a_required_server_fails(required: str, code: int) -> None:
    """Goal: a skip cannot look green. Method: a session of one small file, which passes."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "tests/unit/test_positions.py"],
        cwd=_ROOT, env={**os.environ, "TIDESTORE_REQUIRE": required},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert " passed" in done.stdout, done.stdout
    assert done.returncode == code
    assert ("nothing ran on it: ['no-such-server']" in done.stderr) == bool(code)


@pytest.mark.parametrize(
    ("required", "missing"),
    [("both,gw0,gw1", []), ("both,no-such-server,here", ["here", "no-such-server"])],
)
def test_what_two_workers_ran_is_judged_together(
    tmp_path: Path, required: str, missing: list[str]
) -> None:
    """Goal: each worker's tests count, and what either skipped is missing.

    Method: a file on each of two workers. One server that both ran on, one by each worker's name,
    and one that ran on one worker and was skipped on the other.
    """
    done = session(
        tmp_path, "-n", "2", "--dist", "loadfile", required=required, one=_ONE, other=_OTHER
    )
    assert "2 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert done.returncode == bool(missing), done.stderr
    said = [line for line in done.stdout.splitlines() if "ran on " in line or "NOT run" in line]
    assert said == [
        "ran on both: 2 tests", "ran on gw0: 1 tests", "ran on gw1: 1 tests",
        "ran on here: 1 tests", "NOT run, for want of here: 1 tests",
    ]  # fmt: skip
    assert done.stderr.count(f"nothing ran on it: {missing}") == bool(missing)


def test_a_bare_import_on_a_worker_fails_the_session(tmp_path: Path) -> None:
    """Goal: a worker's second copy of a module is seen. Method: one of two files has one."""
    bare = "import sys\ndef test_bare():\n    sys.modules['streams'] = sys\n"
    files = {"one": bare, "other": "def test_other():\n    pass\n"}
    done = session(tmp_path, "-n", "2", "--dist", "loadfile", **files)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
    assert done.stderr.count("a second copy of a module: ['streams']") == 1


def test_who_needs_the_machine_alone_has_it_and_does_not_wait_for_ever(tmp_path: Path) -> None:
    """Goal: nothing runs beside a test marked `alone`, and many others cannot keep it waiting.

    Method: on the other worker 40 tests in a row; each writes when it began and ended. None of them
    overlaps the one alone, which ends while there are more of them to come.
    """
    write = (
        "import pathlib, pytest, time\n"
        "def write(name, seconds):\n"
        "    begun = time.monotonic()\n"
        "    time.sleep(seconds)\n"
        "    text = f'{begun} {time.monotonic()}'\n"
        f"    (pathlib.Path({str(tmp_path)!r}) / f'{{name}}.time').write_text(text)\n"
    )
    one = write + "@pytest.mark.alone\ndef test_alone():\n    write('alone', 0.3)\n"
    many = write + (
        "@pytest.mark.parametrize('number', range(40))\n"
        "def test_many(number):\n    write(f'many-{number}', 0.05)\n"
    )
    done = session(tmp_path, "-n", "2", "--dist", "loadfile", one=one, many=many)
    assert "41 passed" in done.stdout, done.stdout + done.stderr
    times = {
        path.stem: [float(word) for word in path.read_text("utf-8").split()]
        for path in tmp_path.glob("*.time")
    }
    begun, ended = times.pop("alone")
    assert len(times) == 40
    assert [one for one in times.values() if one[0] < ended and one[1] > begun] == []
    assert max(one[0] for one in times.values()) > ended, "it had to wait for all others"


def test_files_that_take_long_are_known_by_their_names() -> None:
    """Goal: no worker begins a long file last. Method: each file of the table is there.

    One that is not in it counts by its folder, and less than those that are known to take longer.
    """
    tests = _ROOT / "tests"
    assert [name for name in SECONDS if not (tests / name).is_file()] == []
    others = [seconds_of(tests / folder / "test_new.py") for folder in ("integration", "unit")]
    assert max(SECONDS.values()) > others[0] > others[1] == 0
