"""What a redaction would do, before it does it, and the token that proves that it was looked at.

    file    takes its blob along, unless another live manifest names it: then the blob stays
    bundle, collection   take nothing along: what they name may be named by others

The token is a keyed hash of the preview, valid for some minutes on any gateway, which needs no
memory for it. Its key is the admin's own bearer token, so nobody else can use it. When what would
be done has changed meanwhile (a new version, a new bundle), the hash does not fit and the admin
looks again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tidestore.api.lookup import Index
from tidestore.schemas.objects import DatasetName, Kind, Sha256, blob_key

# Time to read a preview and to ask a colleague.
TOKEN_SECONDS: Final = 600
TOKEN_CHARS_MAX: Final = 100
# Names in an answer; the counts beside them are whole.
_NAMES_MAX: Final = 100

# Said in every answer, so that nobody believes that more was done than can be.
BEYOND_OUR_HAND: Final = (
    "copies that were read or downloaded already, and caches on the way",
    "signed links: until they expire, at stores where the bytes are still on their way out",
    "replicas of third parties: they read the redaction, and do what their owners decide",
    "backups of the log and of the stores, and a cloud's own soft delete or object lock",
    "records of the log: until compaction, within kafka.redaction_hours",
)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a redaction of a target means. `keeps` maps a blob that stays to who names it."""

    target: str
    kind: Kind
    dataset: DatasetName
    keys: tuple[str, ...]
    takes_along: tuple[str, ...] = ()
    keeps: tuple[tuple[str, tuple[str, ...]], ...] = ()
    referred_by: tuple[str, ...] = ()
    is_complete: bool = True

    def document(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "target": self.target,
            "kind": self.kind.value,
            "dataset": self.dataset,
            "keys": list(self.keys[:_NAMES_MAX]),
            "keys_count": len(self.keys),
            "takes_along": list(self.takes_along[:_NAMES_MAX]),
            "takes_along_count": len(self.takes_along),
            "keeps": [
                {"key": blob, "named_by": list(files[:_NAMES_MAX])}
                for blob, files in self.keeps[:_NAMES_MAX]
            ],
            "referred_by": list(self.referred_by[:_NAMES_MAX]),
            "referred_by_count": len(self.referred_by),
            "is_complete": self.is_complete,
            "beyond_our_hand": list(BEYOND_OUR_HAND),
        }


def preview_of(
    index: Index,
    target: str,
    kind: Kind,
    dataset: DatasetName,
    keys: list[str],
    *,
    parents: Mapping[str, Sequence[str]] | None = None,
    is_complete: bool = True,
) -> Preview:
    """Look at what a redaction of these keys means; nothing is changed.

    `parents` are the bundles and collections that name a key.

    Keys that are redacted already are looked at, too: what their redaction did not come to is then
    found at the retry.
    """
    taken: list[str] = []
    kept: list[tuple[str, tuple[str, ...]]] = []
    live = {
        key: [name for name in names if index.redactions.find(name) is None]
        for key, names in (parents or {}).items()
    }
    named_by = [name for key in keys for name in live.get(key, [])]
    if kind is Kind.BLOB:
        for key in keys:
            named_by += index.redactions.files_naming(dataset, key.rsplit("/", 1)[-1])
    elif kind is Kind.FILE:
        going = set(keys)
        rows = index.find_many(keys)
        for sha256 in sorted({row.link_sha256 for row in rows.values() if row.link_sha256}):
            blob = blob_key(dataset, Sha256(sha256))
            if index.find(blob) is None or index.redactions.find(blob) is not None:
                continue
            files = index.redactions.files_naming(dataset, sha256)
            others = [*(f for f in files if f not in going), *live.get(blob, [])]
            if others:
                kept.append((blob, tuple(others)))
            else:
                taken.append(blob)
    refers = tuple(sorted(set(named_by) - set(keys)))
    return Preview(
        target, kind, dataset, tuple(keys), tuple(taken), tuple(kept), refers, is_complete
    )


def make_token(preview: Preview, secret: str, now_seconds: float | None = None) -> str:
    """The token of a preview, for whoever has the secret."""
    now = time.time() if now_seconds is None else now_seconds
    expires = int(now) + TOKEN_SECONDS
    return f"{expires}.{_digest(preview, secret, expires)}"


def fits(token: str, preview: Preview, secret: str, now_seconds: float | None = None) -> bool:
    """Whether a token is of this very preview, of this admin, and not too old."""
    now = time.time() if now_seconds is None else now_seconds
    expires, _, digest = token.partition(".")
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        return False
    if not now <= int(expires) <= now + TOKEN_SECONDS + 1:
        return False
    return hmac.compare_digest(
        digest.encode("utf-8", "surrogateescape"),
        _digest(preview, secret, int(expires)).encode(),
    )


def _digest(preview: Preview, secret: str, expires: int) -> str:
    said = [
        preview.target, list(preview.keys), list(preview.takes_along),
        [list(kept) for kept in preview.keeps], list(preview.referred_by), expires,
    ]  # fmt: skip
    text = json.dumps(said, sort_keys=True).encode()
    key = hashlib.sha256(b"redaction preview\0" + secret.encode("utf-8", "surrogateescape"))
    return hmac.new(key.digest(), text, hashlib.sha256).hexdigest()[:32]
