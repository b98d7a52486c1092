"""`reports`: documents made from records."""

import hashlib
import re
from datetime import timedelta
from io import BytesIO
from typing import Any

from pypdf import PdfReader

from models.document import Document
from models.subscription import Topic
from models.task import TaskStatus
from tests.factories.people import hire, subscribe
from tests.factories.reports import file_report
from tests.factories.storing import NOW
from tests.factories.upkeep import past_task, switch
from tests.workers.actors.case import Arguments, Bad, Case, Fault, Flaw, Never
from tests.workers.actors.cases.email import MAIL_FAULTS, MAIL_FLAWS, mail_effect
from tests.workers.actors.running import all_rows
from tests.workers.actors.world import World
from workers.actors.reports import MAX_NARRATIVE_CHARS

_NOON = NOW.replace(hour=12, minute=0) - timedelta(days=1)


def _documents(world: World) -> Any:
    stored = [document.model_dump(exclude={"created_at"}) for document in all_rows(Document)]
    return stored, world.files


def _made(world: World, result: Any) -> None:
    (document,) = all_rows(Document)
    ((name, content),) = world.files.items()
    assert (document.path, document.sha256) == (name, hashlib.sha256(content).hexdigest())
    assert (result["path"], result["subject"]) == (name, "FIR-2026-000777")


def _in_the_way(world: World) -> None:
    world.documents.parent.mkdir(parents=True)
    world.documents.write_text("a file where the folder should be")


def _too_long(world: World, arguments: Arguments) -> Arguments:
    return {"report_id": file_report("FIR-LONG", narrative="x" * (MAX_NARRATIVE_CHARS + 1)).report_id}


def _yesterday(world: World) -> Arguments:
    """Two tasks in an hour of the last full day and of the last week, and somebody who wants to hear of them."""
    for number, status in enumerate((TaskStatus.COMPLETED, TaskStatus.FAILED)):
        past_task(NOW - _NOON + timedelta(minutes=number), status=status)
    switch("premium_digest", is_on=True)
    person_id = hire("Lena Fischer")
    subscribe(Topic.DAILY_REPORT, person_id)
    subscribe(Topic.PREMIUM_DIGEST, person_id)
    return {}


def _daily_effect(world: World) -> Any:
    return world.told, world.deliveries, _documents(world)


def _day_told(world: World, result: Any) -> None:
    day = _NOON.strftime("%d %B %Y")
    assert [told[:2] for told in world.told] == [
        ("lena.fischer@example.org", f"Daily report of {day}: 2 tasks, 1 failed")
    ]
    ((name, content),) = world.files.items()
    (attached,) = [part.get_content() for part in world.mails.mails[0].iter_attachments()]
    assert attached == content
    printed = " ".join(PdfReader(BytesIO(content)).pages[0].extract_text().split())
    assert "past.task 1 1 0" in printed
    assert "Tasks that ended, by hour" in printed
    assert name.startswith("daily-report")


def _week_told(world: World, result: Any) -> None:
    ((address, subject, _),) = world.told
    assert (address, world.files) == ("lena.fischer@example.org", {})
    assert re.fullmatch(r"Your digest, .* to .*: 2 tasks, 1 failed", subject)


CASES = {
    "reports.generate_pdf": Case(
        prepare=lambda world: {"report_id": file_report().report_id},
        effect=_documents,
        proves=_made,
        transient=[Fault("no room", _in_the_way, "File exists", end=lambda world: world.documents.unlink())],
        permanent=[
            Flaw("no such report", lambda world, arguments: {"report_id": "FIR-NONE"}, ": check the reference"),
            Flaw("too long", _too_long, "more than the 200,000 that a document may have: shorten it"),
        ],
        bad_input=[Bad({"report_id": ""}, "report_id"), Bad({"report_id": "F" * 65}, "report_id")],
        legacy=("afirgen_tasks.reports.generate_pdf",),
    ),
    "reports.send_daily_reports": Case(
        prepare=_yesterday,
        effect=_daily_effect,
        proves=_day_told,
        transient=MAIL_FAULTS,
        permanent=MAIL_FLAWS,
        bad_input=Never("it takes nothing"),
        legacy=("send_daily_reports",),
    ),
    "reports.send_premium_digest": Case(
        prepare=_yesterday,
        effect=mail_effect,
        proves=_week_told,
        transient=MAIL_FAULTS,
        permanent=MAIL_FLAWS,
        bad_input=Never("it takes nothing"),
        legacy=("premium_only_task",),
    ),
}
