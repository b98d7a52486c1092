"""Two sites, the people who work there, and two vendors."""

from datetime import datetime

from sqlmodel import SQLModel

from models.person import Person, Supervision
from models.site import Site
from models.subscription import Subscription, Topic
from models.vendor import Vendor

HARBOUR_TOWER, LAKE_YARD = 1, 2
"""Sites."""
RAVI, ASHA, ARUN, VERA, GATE, ANITA, SUNIL, LENA, OMAR, IMRAN = range(1, 11)
"""People: requester, two approvers, verifier, security, technician, supervisor, two managers, guard."""
LIFT_AND_HOIST, COOL_AIR = 1, 2
"""Vendors."""

_NAMES = {
    RAVI: "Ravi Menon",
    ASHA: "Asha Pillai",
    ARUN: "Arun Nair",
    VERA: "Vera Thomas",
    GATE: "Gate Desk",
    ANITA: "Anita Das",
    SUNIL: "Sunil Rao",
    LENA: "Lena Fischer",
    OMAR: "Omar Aziz",
    IMRAN: "Imran Khan",
}


def rows(now: datetime) -> list[SQLModel]:
    """They are there before anything else."""
    return [
        Site(site_id=HARBOUR_TOWER, name="Harbour Tower", address="4 Marine Drive, Kochi", time_zone="Asia/Kolkata"),
        Site(site_id=LAKE_YARD, name="Lake Yard", address="Canal Street, Alappuzha", time_zone="Asia/Kolkata"),
        *(
            Person(person_id=person_id, name=name, email=name.lower().replace(" ", ".") + "@example.org")
            for person_id, name in _NAMES.items()
        ),
        Supervision(person_id=IMRAN, supervisor_id=SUNIL),
        Supervision(person_id=ANITA, supervisor_id=SUNIL),
        Vendor(vendor_id=LIFT_AND_HOIST, name="Lift & Hoist Ltd", email="desk@lift-and-hoist.example.org"),
        Vendor(vendor_id=COOL_AIR, name="Cool Air Services", email="service@cool-air.example.org"),
        *(Subscription(topic=topic, person_id=LENA) for topic in Topic),
    ]
