"""Faces: supervisors hear that somebody's face was not that of the person whom they said to be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from models.face_event import FaceEvent, FaceVerdict
from models.person import Person, Supervision
from models.site import Site
from workers.errors import PermanentError
from workers.notifications.notification import Notification, missing, people


@dataclass(frozen=True)
class Sighting:
    """An event, whom somebody said to be, where, and their supervisors."""

    event: FaceEvent
    claimed: Person
    site: Site
    supervisors: tuple[Person, ...]


def _find(session: Session, event_id: int) -> Sighting:
    event = session.get(FaceEvent, event_id)
    if event is None:
        raise missing("face event", event_id)
    if event.verdict != FaceVerdict.MISMATCH:
        raise PermanentError(f"face event {event_id} is {event.verdict}, not a mismatch: send this when it is")
    claimed = session.get_one(Person, event.person_id)
    supervisors = session.exec(
        select(Person)
        .where(col(Person.person_id) == col(Supervision.supervisor_id), col(Supervision.person_id) == event.person_id)
        .order_by(col(Person.person_id))
    ).all()
    if not any(who.is_active for who in supervisors):
        raise PermanentError(f"{claimed.name} has no supervisor who could be told: name one in supervisions")
    return Sighting(event, claimed, session.get_one(Site, event.site_id), tuple(supervisors))


def _shown(of: Sighting) -> Mapping[str, Any]:
    score = "" if of.event.score is None else f"{of.event.score:.2f} of 1"
    return {"event": of.event, "claimed": of.claimed, "site": of.site, "score": score}


MISMATCH = Notification(
    template="face_mismatch", find=_find, recipients=lambda of: people(of.supervisors), context=_shown
)
