"""Templates: both parts of every mail say the same, and nobody's record is taken for markup or for the mail's words."""

import html
import re

import pytest

from tests.factories.permits import ask_for_permit
from tests.workers.notifications.mails import MAILS, mails_of, rendered
from workers.clients.mail_template import TEMPLATES_DIR, render
from workers.errors import PermanentError
from workers.notifications import permits

_SHARED = {"permit_question"}
"""Templates that are no mail by themselves."""


def readable(markup: str) -> str:
    """What a person reads of an HTML part, and where its links lead."""
    body = re.sub(r"<head>.*</head>", "", markup, flags=re.DOTALL)
    with_links = re.sub(r'<a [^>]*href="([^"]*)"[^>]*>(.*?)</a>', r"\2: \1", body, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", with_links)).split())


def test_every_template_is_in_the_table_of_mails() -> None:
    known = {name.partition(",")[0] for name in MAILS}

    assert {path.stem for path in TEMPLATES_DIR.glob("*.j2")} - _SHARED == known


@pytest.mark.parametrize("name", MAILS)
def test_the_text_and_the_html_part_say_the_same(name: str, sqlite_database: str) -> None:
    mails = rendered(name)

    assert mails
    for mail in mails:
        assert readable(mail.html) == " ".join(mail.text.split())
        assert mail.text.startswith(f"{mail.subject}\n\n")
        assert "\n\n\n" not in mail.text
        assert max(map(len, mail.text.splitlines())) < 998, "a line that SMTP would not take"


@pytest.mark.parametrize("name", ["daily_report", "sla_report"])
def test_a_table_that_is_too_wide_for_a_phone_breaks_names_and_no_numbers(name: str, sqlite_database: str) -> None:
    for mail in rendered(name):
        rows = re.findall(r'<tr>(<t[hd] class="[^"]*rule".*)</tr>', mail.html)
        assert len(rows) > 3
        for row in rows:
            first, *others = re.findall(r'style="([^"]*)"', row)
            assert "overflow-wrap:anywhere" in first
            assert all("white-space:nowrap" in one for one in others)


@pytest.mark.usefixtures("sqlite_database")
def test_what_the_system_did_to_a_ticket_is_said_without_the_names_of_its_actors() -> None:
    (escalated, *_), (commented, *_) = rendered("ticket, escalated"), rendered("ticket, commented")

    assert "\nIt stood at level 0 for more than 1 h.\n" in escalated.text
    assert "ticket_escalation" not in escalated.text
    assert "\nBy Front desk: the pump is here on Friday.\n" in commented.text


@pytest.mark.parametrize("name", MAILS)
def test_no_part_shows_how_it_was_made(name: str, sqlite_database: str) -> None:
    for mail in rendered(name):
        for part in (mail.subject, mail.text, mail.html):
            assert not re.search(r"\{[{%#]|None|Undefined|<built-in|object at 0x|Markup\(", part)
        assert "<script" not in mail.html
        assert not re.search(r"src=|url\(|@import|<link", mail.html), (
            "a mail must fetch nothing: it would tell who reads"
        )


def test_markup_in_a_record_is_text_in_both_parts() -> None:
    hostile = "<img src=x onerror=alert(1)>\"'&amp;"

    mail = render("confirmation", {"reference": hostile, "report": None})

    assert hostile in mail.text
    assert hostile in mail.subject
    assert "<img" not in mail.html
    assert hostile in html.unescape(mail.html)


@pytest.mark.usefixtures("sqlite_database")
def test_a_record_cannot_speak_in_the_mails_own_lines() -> None:
    forged = "x\n\nApprove: https://evil.example"
    permit = ask_for_permit(place=forged, work=f"Ropes.\n\n{forged}")

    for mail in mails_of(permits.APPROVAL, permit.permit_id):
        assert "Place:         x Approve: https://evil.example\n" in mail.text
        assert "\n    Approve: https://evil.example\n" in mail.text
        assert not re.search("^Approve: https://evil", mail.text, re.MULTILINE)


@pytest.mark.parametrize("smuggled", ["\r\nBcc: all@example.org", "\n", "\u2028Bcc: x", "\u2029", "\x0b", "\0", "\x85"])
def test_a_control_character_never_reaches_the_subject(smuggled: str) -> None:
    with pytest.raises(PermanentError, match="clean the record"):
        render("confirmation", {"reference": f"R{smuggled}1", "report": None})


def test_a_subject_that_is_too_long_for_a_header_is_refused() -> None:
    with pytest.raises(PermanentError, match="longer than 300 characters: clean the record"):
        render("confirmation", {"reference": "R" * 300, "report": None})
