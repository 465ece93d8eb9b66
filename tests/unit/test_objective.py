"""A missed objective is said once, by whoever sees it first, and said again when it is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.made import copy, written
from tests.unit.test_lags import Index

from tidestore.api import objective
from tidestore.api.objective import ObjectiveWatch
from tidestore.api.settings import GatewaySettings, Limits
from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.log import Appended
from tidestore.schemas.events import CopyState
from tidestore.schemas.objectives import ObjectiveChanged
from tidestore.schemas.objects import ReplicaName
from tidestore.schemas.topics import Topics


class Log:
    """The topic and the index behind it: what is appended is folded at once, or only later."""

    def __init__(self) -> None:
        self.index = Index()
        self.said: list[ObjectiveChanged] = []
        self.late: list[Any] = []

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        return self.index.query(sql, parameters)

    async def ends(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        del topic
        return dict.fromkeys(partitions, 0)

    async def reached(self, *_: Any, **__: Any) -> None:
        """Waiting for the fold folds what was late."""
        late, self.late = self.late, []
        self.index.take(*late)

    async def append(
        self, topic: str, partition: int, key: str, event: ObjectiveChanged
    ) -> Appended:
        assert topic.endswith("objectives")
        self.said.append(event)
        self.index.take(event)
        return Appended(partition, len(self.said) - 1, 0)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setattr(objective, "_SPREAD_SECONDS", 0.0)
    return Log()


def watch(log: Log, gateway: str = "0") -> ObjectiveWatch:
    """A gateway's watch over one replica, with the default promise."""
    settings = GatewaySettings(
        kafka=KafkaSettings("x"), topics=Topics(), origin=ReplicaName("aws"),
        replicas=(),
        data_folder=Path("/x"), limits=Limits(), gateway_id=gateway,
    )  # fmt: skip
    return ObjectiveWatch(settings, dict, log, log.index.lags, log)  # type: ignore[arg-type]


def _old() -> int:
    return int(time.time() * 1000) - 20 * 60_000


async def test_missed_and_kept_again_are_each_said_once(log: Log) -> None:
    """Goal: each change is one record, whoever looks. Method: two gateways look many times."""
    watches = [watch(log, name) for name in "ab"]
    for _ in range(3):
        for one in watches:
            await one._look("onprem", "copies.onprem.1")
    assert log.said == [], "nothing was due, so nothing was missed"
    log.index.take(written(key="public/blobs/" + "0" * 64, written_at_ms=_old()))
    for one in watches * 3:
        await one._look("onprem", "copies.onprem.1")
    now = int(time.time() * 1000)
    for number in range(2_000):
        key = f"public/blobs/{number:064x}"
        log.index.take(copy(key, CopyState.PRESENT, written_at_ms=now, changed_at_ms=now))
    for one in watches * 3:
        await one._look("onprem", "copies.onprem.1")
    assert [(e.number, e.is_kept, e.told_by) for e in log.said] == [(1, False, "a"), (2, True, "a")]
    assert (log.said[0].promised_ppm, log.said[0].within_ms) == (999_000, 900_000)
    assert (log.said[0].in_time_ppm, log.said[0].overdue) == (0, 1)


async def test_who_has_not_folded_the_copies_yet_says_nothing(log: Log) -> None:
    """Goal: a gateway that starts raises no alarm. Method: the copy is folded when waited for."""
    key = "public/blobs/" + "0" * 64
    log.index.take(written(key=key, written_at_ms=_old()))
    log.late = [copy(key, CopyState.PRESENT, written_at_ms=_old(), changed_at_ms=_old() + 10)]
    await watch(log)._look("onprem", "copies.onprem.1")
    assert log.said == []


async def test_two_who_say_it_at_once_give_it_one_number(log: Log) -> None:
    """Goal: a repeat is known. Method: two gateways find it before either has said it."""
    log.index.take(written(key="public/blobs/" + "0" * 64, written_at_ms=_old()))
    await asyncio.gather(
        watch(log, "a")._tell("onprem", 1, 1, is_kept_now=False),
        watch(log, "b")._tell("onprem", 1, 1, is_kept_now=False),
    )
    await watch(log)._look("onprem", "copies.onprem.1")
    assert [event.number for event in log.said] == [1, 1]
