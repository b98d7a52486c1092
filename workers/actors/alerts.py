"""Alerts: tells a webhook or a chat that an alert was opened or is over. (Mail: `email.send_alert`.)

Idempotency key: alert + channel + event, kept on the alert (`told`) once the channel took the notice. A worker that
dies between the channel's answer and that commit tells again; webhooks and chats can do no better, so the notice names
alert and event (`alert 7 opened`) for who wants to see that it is the same.

The channel's URL holds secrets, so it is no parameter: a task names the channel, and the settings have its URL. Who
runs the installation sets them, never a caller; redirects are not followed all the same, so that a channel cannot send
us to an address inside.
"""

import logging
import re
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Len

from models.task import TaskType
from workers import callboard
from workers.alerts.watch import channels
from workers.errors import PermanentError, TransientError
from workers.registry import actor

FIRST_RETRY_S = 15.0
MAX_RETRIES = 6
TIME_LIMIT_S = 60.0
_ANSWER = re.compile(r"error=(\d{3})")

Event = Literal["opened", "recovered"]


def tell(url: str, *, title: str, body: str, recovered: bool) -> None:
    """Say something at a channel. Raises TransientError, without the URL."""
    # why here: the library and its plug-ins take a second and 45 MB, in workers that have something to tell only.
    from apprise import Apprise, AppriseAsset, LogCapture, NotifyType

    apprise = Apprise(asset=AppriseAsset(app_id="Callboard", http_redirects=False, async_mode=False))
    if not apprise.add(url):
        raise PermanentError("the channel's URL is none that is known: correct CALLBOARD_ALERT_CHANNELS")
    with LogCapture(level=logging.WARNING) as said:
        kind = NotifyType.SUCCESS if recovered else NotifyType.FAILURE
        is_told = apprise.notify(title=title, body=body, notify_type=kind)
        answer = _ANSWER.search(said.getvalue())
    if not is_told:
        # why no more of what it said: that may hold the URL.
        raise TransientError(f"the channel did not take the notice ({answer[1] if answer else 'no answer'}): check "
                             "that it is there and that CALLBOARD_ALERT_CHANNELS is right")  # fmt: skip


@actor(
    task_type=TaskType.HEALTH, priority=8, max_retries=MAX_RETRIES, min_backoff_s=FIRST_RETRY_S,
    time_limit_s=TIME_LIMIT_S,
)  # fmt: skip
def deliver(
    alert_id: Annotated[int, Ge(1), Le(2**31 - 1)], channel: Annotated[str, Len(1, 100)], event: Event = "opened"
) -> dict[str, Any]:
    """Tell a channel of CALLBOARD_ALERT_CHANNELS of an alert.

    Args:
        alert_id: of the table `alerts`.
        channel: its name, as json-1a2b3c.
        event: opened or recovered.
    """
    from models import database
    from models.alert import Alert

    url = channels(callboard.settings).get(channel)
    if url is None:
        raise PermanentError(f"there is no channel {channel} any more: CALLBOARD_ALERT_CHANNELS was changed")
    with database.reading() as session:
        alert = session.get(Alert, alert_id)
    if alert is None:
        raise PermanentError(f"there is no alert {alert_id}")
    recovered, delivered = event == "recovered", f"{channel} {event}"
    if delivered in alert.told:
        return {"channel": channel, "alert": alert.key, "event": event}
    said = f"{alert.message}\n{alert.count} in all. Since {alert.opened_at:%Y-%m-%d %H:%M:%S} UTC."
    if recovered and alert.closed_at is not None:
        said += f" Over at {alert.closed_at:%Y-%m-%d %H:%M:%S} UTC."
    title = f"{'Recovered' if recovered else 'Alert'}: {alert.key}"
    tell(url, title=title, body=f"{said}\n(alert {alert_id} {event})", recovered=recovered)
    with database.writing() as session:
        stored = session.get_one(Alert, alert_id, with_for_update=True)
        stored.told = [*stored.told, delivered]
    return {"channel": channel, "alert": alert.key, "event": event}
