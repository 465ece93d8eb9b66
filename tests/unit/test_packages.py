"""What is installed: all that is ours, under one name, with the dependencies it really has."""

from __future__ import annotations

import ast
import contextlib
import re
import shutil
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from tests.unit.ours import LINKED, PRODUCT, ROOT, our_files, python_files, text_of, tree_of

# Not in the source archive: what only a checkout can use.
_CHECKOUT_ONLY = re.compile(
    r"\.|uv\.lock|Dockerfile|docker-compose|docker/|scripts/|changes/|src/tidestore/\w+$"
)
# Dependencies that no module of ours imports: the library that does so for us, and where.
_THROUGH = {
    "aiokafka": ("faust-streaming", "faust/transport/drivers/aiokafka.py"),
    "cramjam": ("aiokafka", "aiokafka/codec.py"),
}


def project() -> dict[str, Any]:
    """The project's table in pyproject.toml."""
    found: dict[str, Any] = tomllib.loads(text_of("pyproject.toml"))["project"]
    return found


def name_of(requirement: str) -> str:
    """A distribution's name out of a requirement, in its one spelling."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def installed_path(name: str) -> str | None:
    """Where a file of ours must lie once it is installed; None when it must not be."""
    top, _, rest = name.partition("/")
    if top in LINKED:
        return f"tidestore/{name}"
    if name.startswith("src/tidestore/") and not (ROOT / name).is_symlink():
        return rest
    return None


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is ours, links as links: what a clone would be."""
    folder = tmp_path_factory.mktemp("clone")
    for name in our_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as the release builds it."""
    return build_wheel(clone, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive."""
    folder = str(tmp_path_factory.mktemp("sdist"))
    return Path(next(SdistBuilder(str(clone)).build(directory=folder, versions=["standard"])))


def build_wheel(source: Path, target: Path) -> Path:
    """Build a wheel from a source folder."""
    return Path(next(WheelBuilder(str(source)).build(directory=str(target), versions=["standard"])))


def test_the_wheel_holds_all_that_is_ours_and_nothing_else(wheel: Path) -> None:
    """Goal: nothing is lost and nothing is smuggled. Method: compare the wheel with git's list."""
    expected = {path for name in our_files() if (path := installed_path(name))}
    assert {"tidestore/api/app.py", "tidestore/schemas/avro/ids.json"} <= expected
    assert {"tidestore/local/jars.json", "tidestore/py.typed"} <= expected
    with zipfile.ZipFile(wheel) as opened:
        found = {name for name in opened.namelist() if ".dist-info/" not in name}
    assert found == expected


def test_the_wheel_takes_one_name_and_carries_licence_and_command(wheel: Path) -> None:
    """Goal: no `streams` or `api` of ours in anybody's site-packages. Method: list the top."""
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        info = f"tidestore-{project()['version']}.dist-info"
        assert {name.split("/", 1)[0] for name in names} == {"tidestore", info}
        assert opened.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert opened.read(f"{info}/licenses/NOTICE") == (ROOT / "NOTICE").read_bytes()
        points = opened.read(f"{info}/entry_points.txt").decode()
    assert "tidestore = tidestore.__main__:main" in points


def test_the_version_is_spelled_the_same_everywhere() -> None:
    """Goal: `tidestore --version` tells what was installed. Method: compare the spellings."""
    match = re.search(r'^__version__ = "(.+)"$', text_of("src/tidestore/__init__.py"), re.MULTILINE)
    assert match
    assert match[1] == project()["version"]


def test_the_source_archive_loses_nothing_and_builds_the_same_wheel(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    """Goal: the archive is enough. Method: compare it with git's list, unpack it, build from it.

    The links in src/tidestore once made the builder lose whole folders without a word
    (docs/decisions/0001).
    """
    with tarfile.open(sdist) as opened:
        opened.extractall(tmp_path, filter="data")
    root = next(tmp_path.iterdir())
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    expected = {name for name in our_files() if not _CHECKOUT_ONLY.match(name)}
    assert found - {"PKG-INFO", ".gitignore"} == expected
    with zipfile.ZipFile(build_wheel(root, tmp_path)) as again, zipfile.ZipFile(wheel) as first:
        assert set(again.namelist()) == set(first.namelist())


def run_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, without what stands under `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from run_nodes(child)


def imports_of(name: str) -> Iterator[str]:
    """What a Python file imports when it runs, wherever the import stands."""
    for node in run_nodes(tree_of(name)):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{item.name}" for item in node.names)


def modules_of(distribution: str) -> set[str]:
    """Names of modules that a distribution installs, dotted, two levels deep at most."""
    found = set()
    for path in metadata.files(distribution) or []:
        parts = path.parts
        if path.suffix in {".py", ".so", ".pyi"} and ".dist-info" not in parts[0]:
            stem = path.name.split(".", 1)[0]
            found.add(stem if len(parts) == 1 else ".".join(parts[:2]).removesuffix(".py"))
            if len(parts) > 2:
                found.add(".".join(parts[:3]).removesuffix(".py"))
    return found


def is_used(distribution: str, imported: set[str]) -> bool:
    """Whether something that is imported belongs to a distribution."""
    mine = modules_of(distribution)
    tops = {name.split(".", 1)[0] for name in mine} - {"google"}
    return any(name.split(".", 1)[0] in tops or name in mine for name in imported)


def test_every_dependency_is_used() -> None:
    """Goal: nobody installs what we do not need. Method: find an import of each in the product."""
    imported = {found for name in python_files(*PRODUCT) for found in imports_of(name)}
    names = {name_of(item) for item in project()["dependencies"]}
    assert "aiohttp" in names
    for name in sorted(names - _THROUGH.keys()):
        assert is_used(name, imported), f"no module of the product imports {name}"
    for name, (library, module) in _THROUGH.items():
        assert name in names
        assert not is_used(name, imported), f"{name} is imported now: it needs no excuse"
        path = next(item for item in metadata.files(library) or [] if str(item) == module)
        source = Path(str(path.locate())).read_text("utf-8")
        assert re.search(rf"^\s*(?:import|from) {name}\b", source, re.MULTILINE)


def test_every_import_is_declared_or_comes_with_a_declared_library() -> None:
    """Goal: a bare install can import all of it. Method: find each import's distribution.

    It is a dependency of ours, or of the extra `local` or `conformance`, or one that such a
    library requires in turn: requests and urllib3, say, are how Google's library speaks and fails.
    """
    listed = [*project()["dependencies"]]
    for extra in project()["optional-dependencies"].values():
        listed += extra
    left, declared = {name_of(item) for item in listed}, set[str]()
    while left:
        name = left.pop()
        declared.add(name)
        with contextlib.suppress(metadata.PackageNotFoundError):  # of another system or Python
            needed = metadata.requires(name) or []
            left |= {name_of(item) for item in needed if "extra ==" not in item} - declared
    owners = metadata.packages_distributions()
    ours = {"tidestore", *LINKED}
    findings = []
    for name in python_files(*PRODUCT):
        tops = {found.split(".", 1)[0] for found in imports_of(name)} & owners.keys()
        findings += [
            f"{name} imports {top} of {owners[top]}"
            for top in tops - ours - {"google"}
            if not {name_of(owner) for owner in owners[top]} & declared
        ]
    assert not findings, "\n".join(findings)
