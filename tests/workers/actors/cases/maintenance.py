"""`maintenance`: what is old goes, what is not stays; what is commonly read is in the cache."""

from datetime import timedelta
from typing import Any

from sqlmodel import select

from models import database
from models.audit import AuditEntry
from models.cache_entry import CacheEntry
from models.document import Document
from models.health import HealthSample, ProviderSample
from models.schedule import Schedule
from models.task import Task, TaskLog, TaskStatus
from models.user_session import UserSession
from tests.factories.people import build_site, hire
from tests.factories.storing import NOW, store
from tests.factories.upkeep import audit, cache, keep_document, log_in, past_task, sample_health, schedule_once
from tests.workers.actors.case import Arguments, Bad, Case, Fault, Flaw, Never
from tests.workers.actors.running import all_rows
from tests.workers.actors.world import World
from workers import cache as cached
from workers import callboard

DAY = timedelta(days=1)


def _old_data(world: World) -> Arguments:
    past_task(31 * DAY)
    past_task(8 * DAY)
    schedule_once("over", NOW - 2 * DAY)
    schedule_once("to-come", NOW + DAY)
    for target, outcome in (("gone", "done"), ("gone", "refused"), ("to-come", "done")):
        audit("schedules.edit", target, at=NOW - 31 * DAY, outcome=outcome)
    return {}


def _data(world: World) -> Any:
    with database.reading() as session:
        old = session.exec(select(Task).where(Task.created_at < NOW - DAY)).all()
        tasks = sorted((task.created_at.isoformat(), task.result) for task in old)
    schedules = [row.schedule_id for row in all_rows(Schedule)]
    changes = sorted((entry.target, entry.outcome) for entry in all_rows(AuditEntry))
    return tasks, schedules, changes


def _forgotten(world: World, result: Any) -> None:
    # why not the tasks and results too: the worker's own upkeep may have been there before.
    assert result | {"tasks": 0, "results": 0} == {
        "schedules": 1, "tasks": 0, "results": 0, "change_records": 1, "is_done": True
    }  # fmt: skip
    tasks, schedules, changes = _data(world)
    assert tasks == [((NOW - 8 * DAY).isoformat(), None)]
    assert schedules == ["to-come"]
    assert changes == [("gone", "refused"), ("to-come", "done")]


def _logs(world: World) -> Arguments:
    ended, running = past_task(DAY), past_task(31 * DAY, status=TaskStatus.RUNNING)
    for task_id, at in ((ended, NOW - 31 * DAY), (ended, NOW - DAY), (running, NOW - 31 * DAY)):
        store(TaskLog, {"task_id": task_id, "attempt": 1, "logged_at": at, "level": "info", "message": "m"}, {})
    for at in (NOW - 31 * DAY, NOW - DAY):
        sample_health("h", at)
        store(ProviderSample, {"provider": "erp", "sampled_at": at, "is_up": True}, {})
    return {}


def _kept_logs(world: World) -> Any:
    lines = sorted((NOW - line.logged_at).days for line in all_rows(TaskLog) if line.message == "m")
    samples = [(NOW - one.sampled_at).days for one in (*all_rows(HealthSample), *all_rows(ProviderSample))]
    return lines, samples


def _logs_forgotten(world: World, result: Any) -> None:
    assert result == {"log_lines": 1, "samples": 2, "is_done": True}
    assert _kept_logs(world) == ([1, 31], [1, 1])


def _sessions(world: World) -> Arguments:
    person_id = hire()
    log_in("expired", person_id=person_id)
    log_in("lives", person_id=person_id, expires_at=NOW + DAY)
    return {}


def _sessions_forgotten(world: World, result: Any) -> None:
    assert result == {"sessions": 1, "is_done": True}
    (kept,) = all_rows(UserSession)
    assert kept.expires_at == NOW + DAY


def _pdfs(world: World) -> Arguments:
    keep_document(world.documents, "old.pdf")
    keep_document(world.documents, "young.pdf", created_at=NOW - DAY)
    return {}


def _pdfs_gone(world: World, result: Any) -> None:
    assert result == {"documents": 1, "refused": 0, "parts": 0, "is_done": True}
    assert _kept_pdfs(world) == (["young.pdf"], ["young.pdf"])


def _kept_pdfs(world: World) -> Any:
    return sorted(world.files), sorted(document.path for document in all_rows(Document))


def _away(world: World) -> None:
    world.documents.rename(world.documents.with_name("unmounted"))


def _mounted(world: World) -> None:
    world.documents.with_name("unmounted").rename(world.documents)


def _cache(world: World) -> Arguments:
    _rest_no_longer()
    for key in ("all-sites", "off"):
        callboard.broker.client.delete(cached.PREFIX + key)
    build_site()
    cache("all-sites", "sites")
    cache("off", "sites", is_enabled=False)
    return {}


def _rest_no_longer() -> None:
    """Take back what the bus concludes from the tests' emptying it: that locks are to rest for ten seconds."""
    callboard.broker.depth("cleanup")  # why: it is concluded at the first call.
    callboard.broker.client.hdel(callboard.broker.bus_of("cleanup").keys.prefix + "generation", "emptied_us")


def _values(world: World) -> Any:
    warmed = [(entry.key, entry.warmed_at is not None) for entry in all_rows(CacheEntry)]
    return warmed, cached.get("all-sites"), cached.get("off")


def _warmed(world: World, result: Any) -> None:
    warmed, (site,), off = _values(world)
    assert (site["name"], off) == ("Harbour Tower", None)
    assert warmed == [("all-sites", True), ("off", False)]
    assert 3_590 < callboard.broker.client.ttl(cached.PREFIX + "all-sites") <= 3_600
    assert list(result["warmed"]) == ["all-sites"]


def _strange(world: World, arguments: Arguments) -> Arguments:
    cache("odd", "moon_phases")
    return {}


_ITS_OWN = Never("the database is its own: test_every_actor.py takes it away")
_NOTHING_FOR_GOOD = Never("what may not go stays, and that is no failure")
_TAKES_NOTHING = Never("it takes nothing")

CASES = {
    "maintenance.cleanup_old_data": Case(
        prepare=_old_data,
        effect=_data,
        proves=_forgotten,
        transient=_ITS_OWN,
        permanent=_NOTHING_FOR_GOOD,
        bad_input=[Bad({"retention": 0}, "retention"), Bad({"retention": 3_651}, "retention")],
        legacy=(
            "cleanup_old_data",
            "cleanup_expired_data",
            "cleanup_expired_data_job",
            "app.tasks.cleanup_tasks.cleanup_old_data",
            "app.services.background_jobs.cleanup_old_data",
        ),
    ),
    "maintenance.cleanup_old_logs": Case(
        prepare=_logs,
        effect=_kept_logs,
        proves=_logs_forgotten,
        transient=_ITS_OWN,
        permanent=_NOTHING_FOR_GOOD,
        bad_input=_TAKES_NOTHING,
        legacy=("cleanup_old_logs",),
    ),
    "maintenance.cleanup_expired_sessions": Case(
        prepare=_sessions,
        effect=lambda world: len(all_rows(UserSession)),
        proves=_sessions_forgotten,
        transient=_ITS_OWN,
        permanent=_NOTHING_FOR_GOOD,
        bad_input=_TAKES_NOTHING,
        legacy=("cleanup_expired_sessions",),
    ),
    "maintenance.cleanup_expired_pdfs": Case(
        prepare=_pdfs,
        effect=_kept_pdfs,
        proves=_pdfs_gone,
        transient=[Fault("the folder is away", _away, "is not there.*is it mounted", end=_mounted)],
        permanent=_NOTHING_FOR_GOOD,
        bad_input=_TAKES_NOTHING,
        legacy=("cleanup_expired_pdf_tasks",),
    ),
    "maintenance.warm_cache": Case(
        prepare=_cache,
        effect=_values,
        proves=_warmed,
        transient=_ITS_OWN,
        permanent=[
            Flaw("no such key", lambda world, arguments: {"keys": ["nope"]}, "no cache entry 'nope': expected keys of"),
            Flaw("no such data set", _strange, "no data set 'moon_phases': expected one of escalation_rules"),
        ],
        bad_input=[Bad({"keys": []}, "keys"), Bad({"keys": ["k" * 101]}, "keys.0")],
        legacy=(
            "cache_warm_up",
            "cache_warming_scheduled",
            "refresh_cache_data",
            "app.tasks.cache_tasks.cache_warm_up",
            "app.services.background_jobs.cache_warm_up",
        ),
    ),
}
