"""`reports.generate_pdf`: the document shows the record, is made once, and comes back if it is lost."""

import hashlib
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from dramatiq import Worker
from pypdf import PdfReader

from models import database
from models.document import Document
from models.report import InformationReport
from models.task import TaskStatus
from tests.factories.reports import file_report
from tests.servers import end, wait_until
from tests.workers.actors.running import all_rows, as_task, ended, row
from workers import tasks
from workers.actors.reports import MAX_NARRATIVE_CHARS, generate, page_of
from workers.clients.pdf import render_pdf
from workers.errors import PermanentError


def text_of(content: bytes) -> str:
    """What a person reads, each run of spaces as one."""
    return " ".join(" ".join(page.extract_text() for page in PdfReader(BytesIO(content)).pages).split())


def made(documents: Path, document: Document) -> bytes:
    return (documents / document.path).read_bytes()


def test_the_document_shows_every_fact_of_the_record(ledger_database: str, worker: Worker, documents: Path) -> None:
    report = file_report(incident_at=datetime(2026, 11, 20, 1, 30, tzinfo=UTC), complainant_contact="f@example.org")

    task_id = tasks.enqueue_task("reports.generate_pdf", params={"report_id": report.report_id})

    found = ended(task_id)
    assert found.status == TaskStatus.COMPLETED, found.error_message
    (document,) = all_rows(Document)
    shown = text_of(made(documents, document))
    for fact in (
        *(report.report_id, report.station, report.district, report.complainant_name, report.complainant_contact),
        *(report.incident_place, report.officer_name, report.summary, report.narrative),
        *("20 November 2026, 07:45 UTC", "20 November 2026, 01:30 UTC"),
    ):
        assert fact in shown
    assert "<gate>" in shown
    assert "Rahman & family" in shown


def test_the_row_tells_the_truth_about_the_file(sqlite_database: str, documents: Path) -> None:
    report = file_report()

    document = generate(report.report_id, documents)

    content = made(documents, document)
    (stored,) = all_rows(Document)
    assert (stored.sha256, stored.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (stored.pages, stored.version) == (len(PdfReader(BytesIO(content)).pages), 1)
    assert (documents / document.path).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in documents.iterdir()] == [document.path]


def test_the_legacy_name_makes_it_too(system: object, worker: Worker, documents: Path) -> None:
    file_report()

    task_id = tasks.enqueue_task("afirgen_tasks.reports.generate_pdf", params={"report_id": "FIR-2026-000777"})

    assert ended(task_id).result["pages"] == 1


def test_run_twice_there_is_one_row_and_one_file_with_the_same_bytes(ledger_database: str, documents: Path) -> None:
    report = file_report()
    with as_task("task-1"):
        first = generate(report.report_id, documents)
    before = made(documents, first)
    written_ns = (documents / first.path).stat().st_mtime_ns

    with as_task("task-2"):
        second = generate(report.report_id, documents)

    assert [stored.task_id for stored in all_rows(Document)] == ["task-1"]
    assert (second.document_id, made(documents, second)) == (first.document_id, before)
    assert (documents / second.path).stat().st_mtime_ns == written_ns


def test_two_tasks_at_the_same_moment_make_one_document(ledger_database: str, documents: Path) -> None:
    report = file_report()
    together = threading.Barrier(2)
    failures: list[Exception] = []

    def make() -> None:
        together.wait()
        try:
            generate(report.report_id, documents)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    (stored,) = all_rows(Document)
    assert hashlib.sha256(made(documents, stored)).hexdigest() == stored.sha256


@pytest.mark.parametrize("damage", ["missing", "tampered", "truncated"])
def test_a_file_that_is_gone_or_changed_is_made_again_byte_for_byte(
    sqlite_database: str, documents: Path, damage: str
) -> None:
    report = file_report()
    path = documents / generate(report.report_id, documents).path
    before = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"%PDF-1.4 forged" if damage == "tampered" else before[:100])

    generate(report.report_id, documents)

    assert path.read_bytes() == before
    assert len(all_rows(Document)) == 1


def test_a_new_version_of_the_report_is_a_new_document(sqlite_database: str, documents: Path) -> None:
    report = file_report()
    first = generate(report.report_id, documents)
    with database.writing() as session:
        stored = session.get_one(InformationReport, report.report_id)
        stored.version, stored.summary = 2, "Changed."

    second = generate(report.report_id, documents)

    assert first.path != second.path
    assert [document.version for document in all_rows(Document)] == [1, 2]
    assert "Changed." in text_of(made(documents, second))


def test_an_unknown_report_fails_at_once(ledger_database: str, worker: Worker, documents: Path) -> None:
    for report_id in ("FIR-NONE", "FIR\0NONE", "' OR 1=1--"):
        task_id = tasks.enqueue_task("reports.generate_pdf", params={"report_id": report_id})

        found = ended(task_id)
        assert (found.status, found.reason) == (TaskStatus.FAILED, "not retryable")
        assert (found.error_message or "").endswith(": check the reference")
    assert not documents.exists()


def test_a_narrative_that_is_too_long_fails_and_says_by_how_much(sqlite_database: str, documents: Path) -> None:
    file_report(narrative="x" * (MAX_NARRATIVE_CHARS + 1))

    with pytest.raises(PermanentError, match=r"200,001 characters, more than the 200,000 .*shorten it"):
        generate("FIR-2026-000777", documents)


@pytest.mark.parametrize(
    "report_id", ["../../etc/passwd", "/etc/passwd", "..", "a b;rm -rf", "FIR/2026:1", "--version"]
)
def test_whatever_the_reference_the_file_stays_in_its_folder(
    sqlite_database: str, documents: Path, report_id: str
) -> None:
    file_report(report_id)

    document = generate(report_id, documents)

    assert (documents / document.path).resolve().parent == documents.resolve()
    assert set(document.path) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.")
    assert not document.path.startswith((".", "-"))


def test_references_that_look_alike_have_files_of_their_own(sqlite_database: str, documents: Path) -> None:
    paths = []
    for report_id in ("FIR/1", "FIR-1", "fir-1"):
        file_report(report_id)
        paths.append(generate(report_id, documents).path.casefold())

    assert len(set(paths)) == 3


def test_a_long_narrative_runs_over_pages_and_loses_no_word(sqlite_database: str, documents: Path) -> None:
    words = [f"word{number}" for number in range(1_500)]
    file_report(narrative="\n\n".join(" ".join(words[start : start + 100]) for start in range(0, 1_500, 100)))

    document = generate("FIR-2026-000777", documents)

    content = made(documents, document)
    assert document.pages == len(PdfReader(BytesIO(content)).pages) >= 3
    shown = text_of(content)
    assert [word for word in words if word not in shown] == []
    assert f"Page {document.pages}" in shown


@pytest.mark.parametrize(
    "narrative",
    ["a" * 5_000, "<b>bold</b> <a href='x'>&amp; &nbsp;</a> <!-- -->", "tab\tnul\0bell\x07 vt\x0bend", "😀 മലയാളം עברית",
     "</para><para>", "", " \n \n"],
)  # fmt: skip
def test_any_narrative_can_be_printed(sqlite_database: str, documents: Path, narrative: str) -> None:
    file_report(narrative=narrative)

    document = generate("FIR-2026-000777", documents)

    assert document.pages == len(PdfReader(BytesIO(made(documents, document))).pages)


def test_markup_in_a_narrative_is_printed_as_it_is_written() -> None:
    report = InformationReport(
        report_id="R", complainant_name="N", station="S", filed_at=datetime(2026, 1, 1, tzinfo=UTC),
        narrative="<b>bold</b> &amp; <img src=x>",
    )  # fmt: skip

    content, _pages = render_pdf(page_of(report))

    assert "<b>bold</b> &amp; <img src=x>" in text_of(content)


def test_another_process_makes_the_same_bytes(sqlite_database: str, documents: Path, tmp_path: Path) -> None:
    file_report(narrative="Für eine andere Zeile.\n\nUnd noch eine.")
    here = made(documents, generate("FIR-2026-000777", documents))
    script = f"""
from pathlib import Path
from models import database, tables
from workers.actors import reports

database.bind({sqlite_database!r})
document = reports.generate("FIR-2026-000777", Path({str(tmp_path / "elsewhere")!r}))
"""

    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)

    (there,) = (tmp_path / "elsewhere").iterdir()
    assert there.read_bytes() == here


def test_a_worker_that_is_killed_in_mid_work_leaves_one_document_in_the_end(
    bus: object, sqlite_database: str, documents: Path, request: pytest.FixtureRequest
) -> None:
    file_report(narrative="A sentence of the narrative.\n" * 6_000)
    task_id = tasks.enqueue_task("reports.generate_pdf", params={"report_id": "FIR-2026-000777"})
    environment = os.environ | {"CALLBOARD_DATABASE_URL": sqlite_database, "CALLBOARD_VAR_DIR": str(documents.parent)}
    dramatiq = str(Path(sys.executable).parent / "dramatiq")
    process = subprocess.Popen(
        [dramatiq, "workers", "--processes", "1", "--threads", "1"],
        env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: row(task_id).progress_message == "rendering", within_s=30, what="the rendering to begin")
    finally:
        os.killpg(process.pid, 9)
        end(process)
    assert row(task_id).status == TaskStatus.RUNNING
    assert all_rows(Document) == []

    request.getfixturevalue("worker")

    found = ended(task_id, within_s=60)
    assert (found.status, found.attempt, found.retry_count) == (TaskStatus.COMPLETED, 2, 0)
    (stored,) = all_rows(Document)
    assert [path.name for path in documents.iterdir()] == [stored.path]
    assert hashlib.sha256(made(documents, stored)).hexdigest() == stored.sha256
