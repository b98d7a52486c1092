"""What devices report, and faces that were seen."""

from collections.abc import Sequence
from typing import Any

from models.alert_event import AlertEvent, AlertRule, AlertRuleRecipient
from models.face_event import FaceEvent, FaceVerdict
from tests.factories.people import build_site, hire, hire_supervisor
from tests.factories.storing import NOW, id_of, store, store_links


def rule_alerts(*, recipients: Sequence[str] = ("Control Room",), **changes: Any) -> int:
    """Store a rule and whom it tells; returns its id."""
    rule = store(AlertRule, {"name": "Generator fault"}, changes)
    store_links(AlertRuleRecipient, {"rule_id": id_of(rule.rule_id)}, tuple(map(hire, recipients)))
    return id_of(rule.rule_id)


def report_event(**changes: Any) -> AlertEvent:
    """Store an event; `rule_id` and `site_id` are made unless given."""
    columns = {"source": "DG set 2, panel A", "message": "Coolant at 104 °C, above 98 °C", "occurred_at": NOW}
    for column, make in (("rule_id", rule_alerts), ("site_id", build_site)):
        if column not in changes:
            columns[column] = make()
    return store(AlertEvent, columns, changes)


def see_face(*, supervisors: Sequence[str] = ("Sunil Rao",), **changes: Any) -> FaceEvent:
    """Store an event of a face that was compared and is not the person's, whose supervisors are hired."""
    columns = {"occurred_at": NOW, "verdict": FaceVerdict.MISMATCH, "score": 0.31}
    if "site_id" not in changes:
        columns["site_id"] = build_site()
    person_id = changes.get("person_id") or hire("Imran Khan")
    for name in supervisors:
        hire_supervisor(person_id, name)
    return store(FaceEvent, {**columns, "person_id": person_id}, changes)
