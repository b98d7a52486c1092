"""People, sites, vendors, and who subscribed to what."""

from typing import Any

from models import database
from models.person import Person, Supervision
from models.site import Site
from models.subscription import Subscription, Topic
from models.vendor import Vendor
from tests.factories.storing import id_of, store


def hire(name: str = "Anita Das", **changes: Any) -> int:
    """Store a person, whose address is made of the name; returns the id."""
    email = name.lower().replace(" ", ".") + "@example.org"
    return id_of(store(Person, {"name": name, "email": email}, changes).person_id)


def hire_supervisor(person_id: int, name: str = "Sunil Rao", **changes: Any) -> int:
    """Store a supervisor of a person; returns the supervisor's id."""
    supervisor_id = hire(name, **changes)
    store(Supervision, {"person_id": person_id, "supervisor_id": supervisor_id}, {})
    return supervisor_id


def subscribe(topic: Topic, person_id: int) -> None:
    """Have a person get the mails of a topic."""
    with database.writing() as session:
        session.add(Subscription(topic=topic, person_id=person_id))


def build_site(**changes: Any) -> int:
    """Store a site; returns the id."""
    columns = {"name": "Harbour Tower", "address": "4 Marine Drive, Kochi", "time_zone": "Asia/Kolkata"}
    return id_of(store(Site, columns, changes).site_id)


def sign_vendor(**changes: Any) -> int:
    """Store a vendor; returns the id."""
    columns = {"name": "Lift & Hoist Ltd", "email": "desk@lift-and-hoist.example.org"}
    return id_of(store(Vendor, columns, changes).vendor_id)
