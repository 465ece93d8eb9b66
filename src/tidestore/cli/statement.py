"""`tidestore statement check`: whether a statement is what its signer said, by nothing but its key.

For a third party: no configuration, no network, no credentials. Needs the document as the gateway
gives it (`GET /v1/statements`), and the public key, kept from a time when it was right.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import IO, Any, Final

import click

from tidestore.cli.output import fail, print_json

# A statement is a kilobyte; there is one for each replica.
_BYTES_MAX: Final = 8 * 1024 * 1024
_NAME_CHARS_MAX: Final = 40
_KEY_HINT: Final = "64 hexadecimal digits: `public_key` of a statement from when you trusted it"


@click.group()
def statement() -> None:
    """Signed statements about replicas: all N objects up to a cut are here and equal."""


@statement.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--public-key", "public_keys", multiple=True, required=True, metavar="HEX",
    help="The signer's key, kept from a time when it was right; give all that are in use.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print what was checked as JSON.")
def check(file: IO[bytes], public_keys: Sequence[str], *, as_json: bool) -> None:
    """Check the statements in FILE (- is standard input) against the signer's public key.

    Ends with 1 when a signature is missing or wrong, or of another key. What a statement says is
    printed from its signed text alone.
    """
    keys = [_key(text) for text in public_keys]
    found = [_checked(item, keys) for item in _items(file)]
    if as_json:
        print_json({"items": found})
    else:
        for item in found:
            _show(item)
    if not found or not all(item["is_signed"] for item in found):
        sys.exit(1)


def _key(text: str) -> str:
    lowered = text.strip().lower()
    if len(lowered) != 64 or not set(lowered) <= set("0123456789abcdef"):
        fail("the public key is not one", _KEY_HINT)
    return lowered


def _items(file: IO[bytes]) -> list[Any]:
    data = file.read(_BYTES_MAX + 1)
    hint = "save the answer of GET /v1/statements as it is"
    if len(data) > _BYTES_MAX:
        fail(f"the file has more than {_BYTES_MAX} bytes", hint)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        fail("the file is not JSON", hint)
    items = document.get("items", [document]) if isinstance(document, dict) else document
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        fail("the file holds no statements", hint)
    if not items:
        fail("there is no statement in the file", "no replica was compared yet: `tidestore scrub`")
    return items


def _checked(item: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """One statement, and whether one of the keys has signed its text."""
    from tidestore.connectors.signing import is_signed  # noqa: PLC0415  a slow import

    text, signature = item.get("statement"), item.get("signature")
    is_right = (
        isinstance(text, str)
        and isinstance(signature, str)
        and any(is_signed(text, signature, key) for key in keys)
    )
    said: Any = None
    if is_right:
        try:
            said = json.loads(str(text))
        except ValueError:
            said = None
    if not isinstance(said, dict):
        # Beside the text nothing is signed: the name of the replica is only what somebody wrote.
        name = str(item.get("replica"))[:_NAME_CHARS_MAX]
        return {"replica": name, "is_signed": False, "statement": None}
    return {"replica": said.get("replica"), "is_signed": True, "statement": said}


def _show(item: dict[str, Any]) -> None:
    said = item["statement"]
    if said is None:
        click.echo(f"{item['replica']!r}: NOT SIGNED by this key: believe nothing of it")
        return
    moment = datetime.fromtimestamp(int(said.get("ended_at_ms", 0)) / 1000, UTC)
    click.echo(
        f"{item['replica']}: signed: {said.get('verdict')}: {said.get('said')}"
        f" ({moment:%Y-%m-%dT%H:%M:%SZ})"
    )
