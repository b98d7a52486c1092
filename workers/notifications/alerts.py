"""Alerts, to the people of CALLBOARD_ALERT_RECIPIENTS."""

from sqlmodel import Session

from models.alert import Alert
from workers import callboard
from workers.notifications.notification import Notification, Recipient, missing

Told = tuple[Alert, bool]
"""An alert, and whether it is told that it is over."""


def _find(session: Session, key: tuple[int, str]) -> Told:
    alert_id, event = key
    alert = session.get(Alert, alert_id)
    if alert is None:
        raise missing("alert", alert_id)
    return alert, event == "recovered"


ALERT = Notification(
    template="alert",
    find=_find,
    recipients=lambda _told: [Recipient(address) for address in callboard.settings.alert_recipients],
    context=lambda told: {"alert": told[0], "recovered": told[1]},
)
