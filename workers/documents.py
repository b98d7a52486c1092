"""Documents: a PDF of one version of a record, made once, kept in a file and a row.

Idempotency key: kind + subject + version (`documents`). Who asks again finds the row and the file with the same
checksum; a file that is missing or changed is made again, and comes out byte for byte the same, because nothing of the
moment is in it: no clock, no random ids. What a crash leaves: before the rename, a `.part` file that counts for
nothing; before the commit, a file without a row, which the next run writes again.

Must not: know what a document shows.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from models import database
from models.document import Document, DocumentKind, find_document, record_document
from workers import callboard
from workers.runner.current import current_task

if TYPE_CHECKING:
    from workers.clients.pdf import Page


@dataclass(frozen=True)
class Kept:
    """A document's row and its content."""

    document: Document
    content: bytes


def keep(directory: Path, kind: DocumentKind, subject: str, version: int, make: Callable[[], "Page"]) -> Kept:
    """Make the document of a version of a record, or find it.

    Args:
        directory: where documents are kept.
        subject: what the kind says, as a report's reference.
        make: the page, asked for only if there is no such document.
    """
    task = current_task()
    with database.reading() as session:
        known = find_document(session, kind, subject, version)
    if known is not None:
        found = _intact(directory / known.path, known.sha256)
        if found is not None:
            task.log.info("the document of %s is there already: %s", subject, known.path)
            return Kept(known, found)
    from workers.clients.pdf import render_pdf  # why: reportlab is heavy, and most runs find what they need.

    task.progress(1, 3, "rendering")
    content, pages = render_pdf(make(), font_path=callboard.settings.pdf_font_path)
    task.progress(2, 3, "storing")
    name = file_name(kind, subject, version)
    _store(directory, name, content)
    made = Document(
        kind=kind,
        subject=subject,
        version=version,
        path=name,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        pages=pages,
        task_id=task.id,
        created_at=datetime.now(UTC),
    )
    with database.writing() as session:
        document = record_document(session, made)
    task.progress(3, 3, "stored")
    return Kept(document, content)


def file_name(kind: DocumentKind, subject: str, version: int) -> str:
    """A name that is only letters, digits, dashes and dots, whatever the subject; the digest keeps it unique."""
    name = f"{kind} {subject}"
    readable = re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-")
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{readable}-{digest}-v{version}.pdf"


def _intact(path: Path, sha256: str) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == sha256 else None


def _store(directory: Path, name: str, content: bytes) -> None:
    """Write beside, flush, rename: a crash leaves the old file or the new one, never half of one."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".", suffix=".part", delete=False) as part:
        try:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).replace(directory / name)
        except BaseException:  # why: an interrupt too must leave no half of a file
            Path(part.name).unlink(missing_ok=True)
            raise
