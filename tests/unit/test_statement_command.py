"""`tidestore statement check`, as a third party runs it: a file, a key, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tidestore.cli.commands import cli
from tidestore.connectors.credentials import Secret
from tidestore.connectors.signing import Signer, canonical

OURS, OTHER = Signer(Secret("ours")), Signer(Secret("other"))


def item(replica: str = "gcp", signer: Signer = OURS) -> dict[str, Any]:
    """As GET /v1/statements gives it."""
    text = canonical(
        {
            "format": "tidestore.statement/1", "replica": replica, "verdict": "equal",
            "said": "all 3 objects up to cut 1:5,7 are here and equal",
            "ended_at_ms": 1_700_000_000_000,
        }
    )  # fmt: skip
    return {
        "replica": replica, "verdict": "equal", "statement": text,
        "signature": signer.sign(text), "public_key": signer.public_key,
    }  # fmt: skip


def check(document: object, *words: str, keys: tuple[str, ...] = (OURS.public_key,)) -> Result:
    text = document if isinstance(document, str) else json.dumps(document)
    options = [word for key in keys for word in ("--public-key", key)]
    return CliRunner().invoke(
        cli, ["statement", "check", "-", *options, *words], input=text, obj={}
    )


def test_what_the_key_has_signed_is_told_in_its_own_words() -> None:
    """Goal: a third party needs the answer and the key alone. Method: all items, a list, one."""
    for document in ({"items": [item(), item("aws")]}, [item()], item()):
        result = check(document)
        assert result.exit_code == 0, result.output
        assert "gcp: signed: equal: all 3 objects up to cut 1:5,7 are " in result.output
        assert "2023-11-14T22:13:20Z" in result.output
    found = json.loads(check(item(), "--json").output)
    assert found["items"][0]["statement"]["verdict"] == "equal"


def _changed(**changes: Any) -> dict[str, Any]:
    return {**item(), **changes}


@pytest.mark.parametrize(
    "document",
    [
        _changed(statement=item()["statement"].replace("all 3", "all 9")),
        _changed(statement=item()["statement"] + " "),
        _changed(signature=""),
        _changed(signature=None),
        _changed(signature="zz"),
        _changed(statement=7),
        item(signer=OTHER),  # it brings its own key, which signs it well
        {"items": [item(), item(signer=OTHER)]},
        _changed(statement="7", signature=OURS.sign("7")),
    ],
)
def test_a_word_or_a_key_that_is_not_the_signers_ends_with_1(document: object) -> None:
    """Goal: nothing but the kept key counts. Method: changed text, signature, signer, in turn."""
    result = check(document)
    assert result.exit_code == 1
    assert "NOT SIGNED" in result.output
    items = json.loads(check(document, "--json").output)["items"]
    assert not all(each["is_signed"] for each in items)


def test_what_is_shown_comes_from_the_signed_text_alone() -> None:
    """Goal: a lie beside the text is not repeated. Method: another replica's name and verdict."""
    result = check(_changed(replica="aws", verdict="stopped"))
    assert result.exit_code == 0
    assert "aws" not in result.output
    assert "stopped" not in result.output


def test_a_key_that_was_changed_in_time_is_given_beside_the_new_one() -> None:
    """Goal: keys are rotated. Method: two statements by two keys, both given, in capitals too."""
    document = {"items": [item(), item("aws", OTHER)]}
    assert check(document).exit_code == 1
    both = (OURS.public_key.upper(), OTHER.public_key)
    assert check(document, keys=both).exit_code == 0


@pytest.mark.parametrize(
    ("document", "keys", "said"),
    [
        ("no json", (OURS.public_key,), "not JSON"),
        ("[" * 100_000, (OURS.public_key,), "not JSON"),
        ({"items": []}, (OURS.public_key,), "no statement"),
        ({"items": 7}, (OURS.public_key,), "no statements"),
        (7, (OURS.public_key,), "no statements"),
        (item(), ("abc",), "public key"),
    ],
)
def test_a_mistake_is_told_in_one_line(document: object, keys: tuple[str, ...], said: str) -> None:
    """Goal: no trace for a wrong file or key. Method: each of them."""
    result = check(document, keys=keys)
    assert result.exit_code == 1
    assert said in result.output
    assert isinstance(result.exception, SystemExit)


def test_any_library_of_ed25519_can_check_it_as_the_page_says(tmp_path: Path) -> None:
    """Goal: nobody needs tidestore for it. Method: docs/scrub.md's own lines, on a real answer.

    They run as they stand there; with one word changed they raise.
    """
    page = (Path(__file__).parents[2] / "docs/scrub.md").read_text("utf-8")
    begin = page.index("import json\nfrom pathlib")
    code = page[begin : page.index("```", begin)]
    assert Ed25519PublicKey.__name__ in code
    path = tmp_path / "statements.json"
    code = code.replace("statements.json", str(path)).replace("KEPT_KEY", repr(OURS.public_key))
    path.write_text(json.dumps({"items": [item()]}), "utf-8")
    exec(code, {})
    path.write_text(json.dumps({"items": [_changed(statement="{}")]}), "utf-8")
    with pytest.raises(Exception, match=r"^$"):
        exec(code, {})
