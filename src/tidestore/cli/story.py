"""An object's story in words: pure, from the document that the API gives."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

# What a class of error asks for; docs/operations.md says more.
_REMEDIES: Final = {
    "network": "see that the store answers",
    "throttled": "the store asks for less",
    "fault": "see that the store does its part",
    "auth": "mend the credentials or permissions",
    "full": "make room in the store",
    "bucket": "bring the bucket or folder back",
    "missing": "no replica has the bytes: look whether the origin lost them",
    "checksum": "the source's bytes are not what was written: `tidestore verify` finds them",
    "too_large": "the store takes no object of this size: write it as several",
    "poison": "its record in the log cannot be read: `tidestore log show poison`",
    "defect": "a mistake of ours: the worker's log has the trace",
}


def age_words(ms: int) -> str:
    """A length of time, in its largest unit."""
    seconds = max(0, ms) / 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def story_lines(story: dict[str, Any], now_ms: int) -> list[str]:
    """The whole story, line by line."""
    lines = [story["key"], *_event_lines(story["event"], now_ms)]
    redaction = story["redaction"]
    if redaction is not None:
        where = f", released to {redaction['released_to']}" if redaction["released_to"] else ""
        lines.append(f"  redacted: {redaction['reason']}{where}; nobody can read it")
    elif story["readable_on"]:
        lines.append(f"  readable on {', '.join(story['readable_on'])}")
    else:
        lines.append("  readable nowhere")
    for copy in story["copies"]:
        lines += _copy_lines(copy, now_ms)
    return lines


def _event_lines(event: dict[str, Any] | None, now_ms: int) -> list[str]:
    if event is None:
        return ["  the log has no readable event of it"]
    moment = _moment(event["written_at_ms"])
    age = age_words(now_ms - event["written_at_ms"])
    return [
        f"  written {moment} ({age} ago) by {event['written_by'] or 'somebody'}"
        f" at position {event['position']}, request {event['request_id'] or '-'}",
        f"  {event['size']} bytes of {event['content_type']}, sha256 {event['sha256']},"
        f" origin {event['origin']}",
    ]


def _copy_lines(copy: dict[str, Any], now_ms: int) -> list[str]:
    origin = " (origin)" if copy["is_origin"] else ""
    lines = [f"  {copy['replica']}{origin}: {_step_words(copy, now_ms)}"]
    steps = copy["because"]
    for depth, step in enumerate(steps):
        lines.append(f"    {'  ' * depth}because {step['key']} is {_step_words(step, now_ms)}")
    root = steps[-1] if steps else copy
    remedy = _remedy(root)
    if remedy:
        lines.append(f"    what to do: {remedy}")
    return lines


def _step_words(step: dict[str, Any], now_ms: int) -> str:
    words = [step["state"] if step["state"] != "unknown" else "not in the log"]
    if "changed_at_ms" in step:
        words.append(f"since {_moment(step['changed_at_ms'])}")
    elif step["state"] == "pending":
        words.append("no worker has come to it yet")
    if step.get("is_incomplete"):
        words.append("incomplete: something it names was redacted or left out")
    if step["attempts"]:
        words.append(f"{step['attempts']} attempts")
    if "waits_for" in step:
        count = step.get("waits_count", 0)
        more = f" and {count - 1} more" if count > 1 else ""
        words.append(f"waits for {step['waits_for']}{more}")
    if "error" in step:
        words.append(f"{step.get('error_class', 'error')}: {' '.join(step['error'].split())}")
    if "bytes_done" in step:
        words.append(f"{step['bytes_done']} bytes are there")
    if "next_try_at_ms" in step:
        left = step["next_try_at_ms"] - now_ms
        words.append(f"next try in {age_words(left)}" if left > 0 else "next try now")
    return ", ".join(words)


def _remedy(root: dict[str, Any]) -> str:
    """What a person can do about the root cause; nothing when it goes on by itself."""
    if root["state"] == "unknown":
        return "nobody has written it: write it"
    if root["state"] != "parked":
        return ""
    remedy = _REMEDIES.get(root.get("error_class", ""), "see the error")
    if root.get("error_class") == "poison":  # no retry helps
        return remedy
    return f"{remedy}; then `tidestore retry {root['key']}`"


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
