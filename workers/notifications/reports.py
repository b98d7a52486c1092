"""Information reports: the confirmation that one was filed."""

from typing import Any

from models import database
from models.report import InformationReport
from workers.notifications.notification import Recipient, notify


def confirm(reference: str, address: str) -> dict[str, Any]:
    """Confirm a report to somebody, with its details where it is known here; returns and raises as `notify`."""
    with database.reading() as session:
        report = session.get(InformationReport, reference)
    return notify("confirmation", [Recipient(address)], {"reference": reference, "report": report})
