"""Which files are ours: what git tracks, and what is new and not ignored."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The folders that `src/tidestore` links to; the rest of the product lies in `src/tidestore` itself.
LINKED = ("api", "connectors", "schemas", "streams")
PRODUCT = (*LINKED, "src")


@cache
def our_files() -> tuple[str, ...]:
    """Paths of all our files, relative to the root, links among them."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    names = {name for name in done.stdout.decode().split("\0") if name}
    found = sorted(name for name in names if (ROOT / name).is_symlink() or (ROOT / name).is_file())
    assert len(found) > 100, "git names too few files: this would prove nothing"
    return tuple(found)


def python_files(*folders: str) -> list[str]:
    """Our Python files in some top folders; all of them if none is named."""
    found = [name for name in our_files() if name.endswith(".py")]
    return [name for name in found if not folders or name.split("/", 1)[0] in folders]


def text_of(name: str) -> str:
    """The text of one of our files."""
    return (ROOT / name).read_text("utf-8")


@cache
def tree_of(name: str) -> ast.Module:
    """The syntax tree of one of our Python files."""
    return ast.parse(text_of(name), filename=name)


def has_text(name: str) -> bool:
    """Whether one of our files is text, and not a link."""
    path = ROOT / name
    return not path.is_symlink() and b"\0" not in path.read_bytes()[:8_000]
