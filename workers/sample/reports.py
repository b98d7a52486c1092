"""Three information reports, with awkward characters in one of them."""

from datetime import UTC, datetime

from sqlmodel import SQLModel

from models.report import InformationReport


def rows(now: datetime) -> list[SQLModel]:
    """FIR-2026-000101 to -000103."""
    return [
        InformationReport(
            report_id="FIR-2026-000101",
            complainant_name="Meera Nair",
            complainant_contact="meera.nair@example.org",
            station="Harbour Road",
            district="Kochi",
            incident_place="Parking level 2, Marine Drive",
            incident_at=datetime(2026, 11, 18, 17, 40, tzinfo=UTC),
            filed_at=datetime(2026, 11, 18, 19, 5, tzinfo=UTC),
            summary="Theft of a bicycle from a locked rack.",
            narrative=(
                "The complainant locked a blue touring bicycle to the rack beside the lift at about 17:40 and found "
                "the lock cut on returning at 18:30.\n\nThe attendant remembers a white van that left without paying. "
                "The camera above the barrier was recording."
            ),
            officer_name="Sub-Inspector R. Menon",
        ),
        InformationReport(
            report_id="FIR-2026-000102",
            complainant_name="Jonas Weber",
            complainant_contact="jonas.weber@example.org",
            station="Central Market",
            district="Kochi",
            incident_place="Stall 48, Broadway",
            incident_at=datetime(2026, 11, 19, 9, 15, tzinfo=UTC),
            filed_at=datetime(2026, 11, 19, 10, 0, tzinfo=UTC),
            summary="A wallet with identity papers was lost or taken in the market.",
            narrative="The complainant noticed the loss when paying. The wallet is brown leather and holds a passport.",
            officer_name="Inspector A. Thomas",
        ),
        InformationReport(
            report_id="FIR-2026-000103",
            complainant_name="Fathima Rahman & family",
            complainant_contact="fathima.rahman@example.org",
            station="Lake View",
            district="Alappuzha",
            incident_place="House 12, Canal Street",
            incident_at=datetime(2026, 11, 20, 1, 30, tzinfo=UTC),
            filed_at=datetime(2026, 11, 20, 7, 45, tzinfo=UTC),
            summary="Damage to a garden wall and <gate> by a lorry that did not stop.",
            narrative=(
                "A lorry reversed into the wall during the night. Paint of the lorry, dark green, is on the stones."
            ),
            officer_name="Sub-Inspector L. Joseph",
        ),
    ]
