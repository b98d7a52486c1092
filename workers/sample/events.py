"""What devices reported, and a face that is not the person's."""

from datetime import datetime, timedelta

from sqlmodel import SQLModel

from models.alert_event import AlertEvent, AlertRule, AlertRuleRecipient
from models.face_event import FaceEvent, FaceVerdict
from workers.sample.people import ANITA, HARBOUR_TOWER, IMRAN, LENA

GENERATOR_FAULT = 1
"""A rule."""
COOLANT, AT_THE_GATE = 1, 1
"""Events, of an alert and of a face."""


def rows(now: datetime) -> list[SQLModel]:
    """One event of each kind."""
    return [
        AlertRule(rule_id=GENERATOR_FAULT, name="Generator fault"),
        AlertRuleRecipient(rule_id=GENERATOR_FAULT, person_id=ANITA),
        AlertRuleRecipient(rule_id=GENERATOR_FAULT, person_id=LENA),
        AlertEvent(
            event_id=COOLANT, rule_id=GENERATOR_FAULT, site_id=HARBOUR_TOWER, source="DG set 2, panel A",
            message="Coolant at 104 °C, above 98 °C", occurred_at=now - timedelta(minutes=4),
        ),
        FaceEvent(
            event_id=AT_THE_GATE, person_id=IMRAN, site_id=HARBOUR_TOWER, occurred_at=now - timedelta(minutes=9),
            verdict=FaceVerdict.MISMATCH, score=0.31,
        ),
    ]  # fmt: skip
