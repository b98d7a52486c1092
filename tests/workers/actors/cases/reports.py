"""`reports`: documents made from records."""

import hashlib
from typing import Any

from models.document import Document
from tests.factories.reports import file_report
from tests.workers.actors.case import Arguments, Bad, Case, Fault, Flaw
from tests.workers.actors.running import all_rows
from tests.workers.actors.world import World
from workers.actors.reports import MAX_NARRATIVE_CHARS


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
    )
}
