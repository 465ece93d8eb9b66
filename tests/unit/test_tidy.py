"""The rules of the house, held over all that is ours; see CONTRIBUTING.md.

Each finding is one line that names file, line and what to do, so that a red test reads as a review.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.unit.ours import LINKED, PRODUCT, ROOT, has_text, our_files, python_files, text_of
from tests.unit.ours import tree_of as tree

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 400

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LOOPS = (ast.While, ast.For, ast.AsyncFor)
_VARIABLE = re.compile(r"\b(?:TIDESTORE|XDG)_[A-Z0-9_]+\b")
# Written in two pieces, so that this file does not find itself.
_SCRIBBLE = re.compile("TO" + r"DO\b|FIX" + r"ME\b|XX" + r"X\b")
_ISSUE = re.compile(r"\(#(?:\d+|n)\)")


# A prop whose sleep is the part it plays, where neither docstring nor line can say so.
_PLAYERS = {"tests/servers/throttle.py": "it plays a slow line"}


def _show(findings: list[str]) -> None:
    assert not findings, "\n" + "\n".join(findings)


def _is_code(name: str) -> bool:
    return name.endswith((".py", ".sh", ".avsc")) or name.startswith(("scripts/", ".ci/"))


def test_no_function_is_longer_than_a_screen() -> None:
    """Goal: whoever reads a function sees all of it. Method: count lines from `def` to its end."""
    findings = []
    for name in python_files():
        for node in ast.walk(tree(name)):
            if isinstance(node, _FUNCTIONS):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    findings.append(f"{name}:{node.lineno}: {node.name} has {lines} lines")
    _show(findings)


def test_no_file_is_longer_than_can_be_held_in_the_head() -> None:
    """Goal: a file holds one thing. Method: count the lines of every file of code."""
    files = {name: len(text_of(name).splitlines()) for name in our_files() if _is_code(name)}
    assert len(files) > 100
    _show([f"{name}: {count} lines" for name, count in files.items() if count > FILE_LINES_MAX])


def test_every_scribble_names_an_issue() -> None:
    """Goal: nothing is left for later in silence. Method: look for the words in every text."""
    findings = []
    for name in filter(has_text, our_files()):
        if name == "uv.lock":
            continue
        for number, line in enumerate(text_of(name).splitlines(), 1):
            findings += [
                f"{name}:{number}: {match[0]} without an issue: (#123)"
                for match in _SCRIBBLE.finditer(line)
                if not _ISSUE.match(line, match.end())
            ]
    _show(findings)


def test_no_file_names_a_machine_or_a_private_registry() -> None:
    """Goal: a clone works anywhere, and gives nobody's network away.

    Method: look for absolute paths of people's machines in every text, and for hosts that serve
    packages. The public ones may be named in three places: the lock file, the demo's data set, and
    the embedded broker's jars. A container's own paths are not a machine's.
    """
    paths = re.compile(r"(?<![\w.$}])/(?:work|root|home|Users|tmp|var/folders)/[\w.-]+")
    hosts = re.compile(r"https?://([\w.-]*(?:py" + r"pi|pythonhosted|maven|npmjs|registry|artifact"
                       r"|nexus|mirror|proxy)[\w.-]*)", re.IGNORECASE)  # fmt: skip
    public = {".".join(parts) for parts in (("py" + "pi", "org"), ("files", "pythonhosted", "org"),
              ("repo", "maven", "apache", "org"))}  # fmt: skip
    places = {"uv.lock", "src/tidestore/local/demo.py", "src/tidestore/local/kafka_server.py"}
    findings = []
    for name in filter(has_text, our_files()):
        is_container = Path(name).name.startswith(("Dockerfile", "docker-compose"))
        for number, line in enumerate(text_of(name).splitlines(), 1):
            if not is_container:
                findings += [f"{name}:{number}: {match[0]}" for match in paths.finditer(line)]
            findings += [
                f"{name}:{number}: {match[1]}"
                for match in hosts.finditer(line)
                if name not in places or match[1] not in public
            ]
    _show(findings)


def _variables_of(name: str) -> Iterator[str]:
    """Environment variables that a Python file reads by name."""
    for node in ast.walk(tree(name)):
        words: list[ast.expr] = []
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.endswith(("environ.get", "getenv")):
                words = node.args[:1]
            words += [item.value for item in node.keywords if item.arg == "envvar"]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
            words = [node.slice]
        for word in words:
            if isinstance(word, ast.Constant) and isinstance(word.value, str):
                yield word.value


def _variables_read() -> dict[str, str]:
    """Every environment variable that we read, and a file that does."""
    found = {word: name for name in python_files() for word in _variables_of(name)}
    for name in our_files():
        if name.startswith(("scripts/", ".ci/")) or name == "Makefile":
            found.update((word, name) for word in _VARIABLE.findall(text_of(name)))
    return found


def test_every_environment_variable_is_documented_and_no_other() -> None:
    """Goal: docs/configuration.md names all variables that exist. Method: compare both ways.

    What only the containers' own programs read may stand in docs/containers.md instead.
    """
    text = text_of("docs/configuration.md")
    read = _variables_read()
    assert {"TIDESTORE_URL", "TIDESTORE_CACHE", "TIDESTORE_DATA", "TIDESTORE_LOG"} <= read.keys()
    findings = []
    for word, name in read.items():
        is_told = f"`{word}`" in text
        if not is_told and name.startswith("docker/") and "docs/containers.md" in our_files():
            is_told = f"`{word}`" in text_of("docs/containers.md")
        if not is_told:
            findings.append(f"docs/configuration.md: {name} reads {word}")
    unknown = set(_VARIABLE.findall(text)) - read.keys()
    _show(findings + [f"docs/configuration.md: nothing reads {word}" for word in sorted(unknown)])


def test_the_environment_is_looked_at_in_one_place() -> None:
    """Goal: what a process does depends on what it is told. Method: find every look at os.environ.

    `__main__.py` hands the environment to the command line as a mapping; click reads the variables
    that stand beside an option (`envvar=`), in the command line too. Nothing else looks.
    """
    findings, roots = [], set()
    for name in python_files(*PRODUCT):
        for node in ast.walk(tree(name)):
            is_look = (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "os"
                and node.attr in {"environ", "environb", "getenv", "putenv", "unsetenv"}
            ) or (
                isinstance(node, ast.ImportFrom)
                and node.module == "os"
                and any(item.name in {"environ", "getenv"} for item in node.names)
            )
            if is_look and name == "src/tidestore/__main__.py":
                roots.add(name)
            elif is_look:
                findings.append(f"{name}: {ast.unparse(node)} looks at the environment")
            is_option = isinstance(node, ast.keyword) and node.arg == "envvar"
            if is_option and not name.startswith("src/tidestore/cli/"):
                findings.append(f"{name}: an option reads the environment outside of cli/")
    assert roots, "the composition root does not look at the environment: where did that go?"
    _show(findings)


def test_the_import_name_holds_four_links_and_the_known_folders() -> None:
    """Goal: no code of the four packages hides behind the links. Method: list src/tidestore."""
    folder = ROOT / "src/tidestore"
    links = {path.name: path.readlink() for path in folder.iterdir() if path.is_symlink()}
    assert links == {name: Path("../..") / name for name in LINKED}
    names = {name.split("/")[2] for name in our_files() if name.startswith("src/tidestore/")}
    assert names - set(LINKED) == {
        "__init__.py", "__main__.py", "py.typed", "cli", "client", "config", "local",
    }  # fmt: skip
    assert {name.split("/")[1] for name in our_files() if name.startswith("src/")} == {"tidestore"}


@dataclass(frozen=True, slots=True)
class Sleep:
    """One call of something named sleep: in which function, and whether in a loop of it."""

    call: ast.Call
    function: ast.FunctionDef | ast.AsyncFunctionDef | None
    is_in_loop: bool


def _sleeps(node: ast.AST, outer: Sleep | None = None) -> Iterator[Sleep]:
    """Every call of something named sleep below a node."""
    function, is_in_loop = (outer.function, outer.is_in_loop) if outer else (None, False)
    if isinstance(node, _FUNCTIONS):
        function, is_in_loop = node, False
    elif isinstance(node, _LOOPS):
        is_in_loop = True
    call = node if isinstance(node, ast.Call) else ast.Call(ast.Name(""), [], [])
    here = Sleep(call, function, is_in_loop)
    if call is node and ast.unparse(call.func).rsplit(".", 1)[-1] == "sleep":
        yield here
    for child in ast.iter_child_nodes(node):
        yield from _sleeps(child, here)


def _seconds(name: str, call: ast.Call) -> float | None:
    """How long a call sleeps; None when that is not a constant of its file."""
    word = call.args[0] if call.args else None
    if isinstance(word, ast.Name):
        values = [
            node.value
            for node in tree(name).body
            if isinstance(node, (ast.Assign, ast.AnnAssign))
            and word.id in ast.unparse(node).split("=", 1)[0]
        ]
        word = values[0] if values else None
    is_number = isinstance(word, ast.Constant) and isinstance(word.value, (int, float))
    return float(word.value) if is_number else None  # type: ignore[union-attr]


def test_no_test_sleeps_and_hopes() -> None:
    """Goal: a test waits for what it needs, never for the clock.

    Method: look at every call named `sleep` under tests/ and in the shipped suite. It is the pause
    of a poll or of a bounded retry: in a loop of its own function, half a second at most, or what
    an answer's Retry-After asked for. Or it only lets others run: `sleep(0)`. Or somebody else
    plays a slow part: then it stands in a function that is no test, and the function's docstring or
    the line's comment says what it plays.
    """
    findings = []
    suite = [name for name in python_files("connectors") if "/conformance/" in name]
    for name in [*python_files("tests"), *suite]:
        lines = text_of(name).splitlines()
        for sleep in _sleeps(tree(name)) if name not in _PLAYERS else ():
            seconds = _seconds(name, sleep.call)
            is_asked = "Retry-After" in ast.unparse(sleep.call)
            is_short = seconds is not None and seconds <= 0.5
            is_pause = sleep.is_in_loop and (is_asked or is_short)
            part = sleep.function
            is_part = (
                part is not None
                and not part.name.startswith("test_")
                and bool(ast.get_docstring(part) or " # " in lines[sleep.call.lineno - 1])
            )
            if seconds != 0 and not is_pause and not is_part:
                text = ast.unparse(sleep.call)
                findings.append(f"{name}:{sleep.call.lineno}: {text} is not the pause of a poll")
    _show(findings)
