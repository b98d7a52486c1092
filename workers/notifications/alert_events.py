"""Alert events: what a device reported is told to the people whom its rule names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dramatiq.middleware import SkipMessage
from sqlmodel import Session, col, select

from models.alert_event import AlertEvent, AlertRule, AlertRuleRecipient
from models.person import Person
from models.site import Site
from workers.notifications.notification import Notification, Recipient, missing, person


@dataclass(frozen=True)
class ReportedEvent:
    """An event, its rule and site, and whom the rule names."""

    event: AlertEvent
    rule: AlertRule
    site: Site
    people: tuple[Person, ...]


def _find(session: Session, event_id: int) -> ReportedEvent:
    event = session.get(AlertEvent, event_id)
    if event is None:
        raise missing("alert event", event_id)
    rule = session.get_one(AlertRule, event.rule_id)
    if not rule.is_enabled:
        raise SkipMessage(f"the alert rule {rule.name!r} is switched off")
    people = session.exec(
        select(Person)
        .where(
            col(Person.person_id) == col(AlertRuleRecipient.person_id),
            col(AlertRuleRecipient.rule_id) == event.rule_id,
        )
        .order_by(col(Person.person_id))
    ).all()
    return ReportedEvent(event, rule, session.get_one(Site, event.site_id), tuple(people))


def _people(of: ReportedEvent) -> Iterator[Recipient]:
    for who in of.people:
        yield from person(who)


def _shown(of: ReportedEvent) -> Mapping[str, Any]:
    return {"event": of.event, "rule": of.rule, "site": of.site}


REPORTED = Notification(template="alert_event", find=_find, recipients=_people, context=_shown)
