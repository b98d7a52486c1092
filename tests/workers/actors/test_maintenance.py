"""Maintenance beyond its rows in the table of actors: documents under attack, parts, the cache, two at once."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dramatiq import Worker

from models.cache_entry import CacheEntry
from models.document import Document
from models.health import ProviderSample
from models.task import TaskStatus
from tests.factories.storing import NOW, store
from tests.factories.tickets import rule_escalation
from tests.factories.upkeep import cache, keep_document, know_provider, past_task, switch
from tests.workers.actors.running import all_rows, ended
from workers import cache as cached
from workers import callboard, tasks
from workers.actors import maintenance
from workers.actors.maintenance import cleanup_expired_pdfs, cleanup_old_data, warm_cache
from workers.errors import PermanentError

DAY = timedelta(days=1)

pytestmark = pytest.mark.usefixtures("system")


def paths() -> list[str]:
    return sorted(document.path for document in all_rows(Document))


def test_what_stands_in_a_documents_place_stays_with_its_row_and_the_others_go(documents: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious.pdf"
    precious.write_text("precious")
    for name in ("linked.pdf", "plain.pdf"):
        keep_document(documents, name)
    (documents / "linked.pdf").unlink()
    (documents / "linked.pdf").symlink_to(precious)
    keep_document(documents, "away.pdf", path="../precious.pdf")
    keep_document(documents, "lost.pdf")
    (documents / "lost.pdf").unlink()

    assert cleanup_expired_pdfs() == {"documents": 2, "refused": 2, "parts": 0, "is_done": True}

    assert paths() == ["../precious.pdf", "linked.pdf"]
    assert precious.read_text() == "precious"


def test_the_last_words_of_a_clean_up_are_those_of_its_result(documents: Path, worker: Worker) -> None:
    keep_document(documents, "old.pdf")
    keep_document(documents, "away.pdf", path="../away.pdf")

    found = ended(tasks.enqueue_task("maintenance.cleanup_expired_pdfs"))

    assert found.result == {"documents": 1, "refused": 1, "parts": 0, "is_done": True}
    assert (found.progress, found.progress_message) == (1.0, "1 documents, 0 parts went; 1 refused")


def test_what_a_dead_writer_left_goes_after_a_day(documents: Path) -> None:
    documents.mkdir(parents=True)
    for name, age in ((".dead.part", 2 * DAY), (".writes.part", timedelta(minutes=1)), ("report.part", 2 * DAY)):
        path = documents / name
        path.write_text("half")
        os.utime(path, (NOW.timestamp() - age.total_seconds(),) * 2)

    assert cleanup_expired_pdfs()["parts"] == 1
    assert sorted(path.name for path in documents.iterdir()) == [".writes.part", "report.part"]


def test_the_documents_of_the_present_are_not_asked_for_a_folder(documents: Path) -> None:
    assert cleanup_expired_pdfs()["is_done"]
    assert not documents.exists()


def test_a_run_whose_time_is_up_says_that_more_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "WORK_S", 0)
    past_task(40 * DAY)

    assert cleanup_old_data() == {"schedules": 0, "tasks": 0, "results": 0, "change_records": 0, "is_done": False}


def test_a_shorter_retention_may_be_asked_for() -> None:
    past_task(5 * DAY)

    assert cleanup_old_data()["tasks"] == 0
    assert cleanup_old_data(retention=4)["tasks"] == 1


def test_every_data_set_can_be_cached_and_read_back(bus: Any) -> None:
    switch("premium_digest", is_on=True)
    rule_escalation()
    know_provider("erp")
    know_provider("mail")
    for minute in (1, 2):
        at = NOW - timedelta(minutes=minute)
        store(ProviderSample, {"provider": "erp", "sampled_at": at, "is_up": minute == 1, "latency_ms": 2.0}, {})
    for name in ("sites", "vendors", "escalation_rules", "feature_flags", "providers", "unfinished_tasks"):
        cache(name, name)

    assert set(warm_cache()["warmed"]) == {entry.key for entry in all_rows(CacheEntry)}

    assert cached.get("feature_flags") == {"premium_digest": True}
    assert cached.get("unfinished_tasks") == {"pending": 0, "running": 0}
    assert (cached.get("providers")["erp"]["is_up"], cached.get("providers")["mail"]) == (True, None)
    assert [rule["level"] for rule in cached.get("escalation_rules")] == [0]
    assert cached.get("never warmed") is None


def test_a_value_or_a_ttl_out_of_bounds_is_refused(bus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PermanentError, match="expected a ttl_s of 1–604,800 seconds, got 0"):
        cached.put("k", 1, ttl_s=0)
    with pytest.raises(PermanentError, match="more than the 1,048,576 that a cache entry may have"):
        cached.put("k", "x" * cached.VALUE_MAX_BYTES, ttl_s=1)


def test_of_two_that_warm_the_cache_one_is_skipped_and_says_who_is_at_it(worker: Worker) -> None:
    held = callboard.broker.client.set(
        callboard.broker.bus_of("cleanup").keys.prefix + "lock:warm-cache", "1 1 run another-task", ex=30
    )
    assert held

    found = ended(tasks.enqueue_task("cache_warm_up"))

    assert (found.status, found.reason) == (
        TaskStatus.CANCELLED, "skipped: lock warm-cache is held by another-task"
    )  # fmt: skip
