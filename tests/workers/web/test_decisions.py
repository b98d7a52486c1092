"""Links in mails decide about permits: through the real API, out of real mails; once, in time, by whom they are for."""

import re
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx2
import pytest

from models import database
from models.audit import AuditEntry
from models.permit import Decision, PartyRole, PermitState, UsedLink, WorkPermit
from models.person import Person
from models.task import Task
from tests.factories.permits import ask_for_permit, parties
from tests.factories.storing import id_of
from tests.workers.actors.conftest import mails
from tests.workers.actors.death import dies_at
from tests.workers.actors.running import all_rows, as_task
from tests.workers.clients.smtp_server import MailServer
from tests.workers.web.conftest import serving
from tests.workers.web.tokens import as_, with_tokens
from workers import callboard, decisions, links
from workers.links import Link
from workers.notifications import permits
from workers.notifications.notification import Notification
from workers.web import create_app
from workers.web.auth import STRANGERS_PER_S
from workers.web.rate import BURST_S

__all__ = ["mails", "with_tokens"]
APPROVED_TASKS = ["email.send_workpermit_approved", "email.send_workpermit_notice"]
VERIFIED_TASKS = ["email.send_workpermit_approval", "email.send_workpermit_notice"]
EXPIRES = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)


@dataclass
class Asked:
    """What somebody has in their mail: label → path of the link."""

    address: str
    paths: dict[str, str]

    def __getitem__(self, label: str) -> str:
        return self.paths[label]


def mailed(server: MailServer, notification: Notification[int, object], permit_id: int | None) -> list[Asked]:
    """Ask those who have to decide, and read their mails."""
    assert permit_id is not None
    server.raw.clear()
    with as_task(f"task-{permit_id}"):
        notification.send(permit_id)
    found = []
    for mail in server.mails:
        body = mail.get_body(("plain",))
        assert body is not None
        read = re.findall(r"^(Approve|Reject|Verify|Open the permit): (\S+)", body.get_content(), re.MULTILINE)
        found.append(Asked(str(mail["To"]), {label: urlsplit(url).path for label, url in read}))
    return found


@pytest.fixture
def verified() -> WorkPermit:
    """A permit that waits for its one approver."""
    return ask_for_permit(approvers=["Asha Pillai"], state=PermitState.VERIFIED)


def permit_row(permit_id: int | None) -> WorkPermit:
    with database.reading() as session:
        return session.get_one(WorkPermit, permit_id)


def state_of(permit: WorkPermit) -> str:
    return permit_row(permit.permit_id).state


def tasks_sent() -> list[str]:
    return sorted(task.task_name for task in all_rows(Task))


def audited() -> list[tuple[str, str, str, str, object]]:
    return [
        (entry.action, entry.who, entry.target, entry.outcome, entry.details.get("reason"))
        for entry in all_rows(AuditEntry)
    ]


def token_of(permit: WorkPermit, role: PartyRole = PartyRole.APPROVER, **changes: object) -> str:
    """A link of ours to the first in a role, made by hand."""
    party = parties(id_of(permit.permit_id), role)[0]
    link = Link(id_of(permit.permit_id), id_of(party.party_id), "approved", "n" * 32, EXPIRES)
    return links.sign(replace(link, **changes), links.keys(callboard.settings)[0])  # type: ignore[arg-type]


# --- deciding --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ledger_database", "bus")
def test_the_page_shows_the_permit_and_changes_nothing(
    api: httpx2.Client, mails: MailServer, verified: WorkPermit
) -> None:
    (asked,) = mailed(mails, permits.APPROVAL, verified.permit_id)

    for path in asked.paths.values():
        answer = api.get(path)

        assert answer.status_code == 200
        for fact in (
            "WP-2026-000042",
            "Replace the ropes of lift 2",
            "Lift &amp; Hoist Ltd",
            "stands &lt;still&gt;",
            "Asha Pillai",
        ):
            assert fact in answer.text
    assert 'value="approved">Approve<' in api.get(asked["Approve"]).text
    assert 'value="rejected"' not in api.get(asked["Approve"]).text
    assert (state_of(verified), tasks_sent(), audited(), all_rows(UsedLink)) == (PermitState.VERIFIED, [], [], [])


@pytest.mark.usefixtures("ledger_database", "bus")
def test_the_last_approver_moves_the_permit_and_vendor_security_and_requester_hear_of_it(
    api: httpx2.Client, mails: MailServer, verified: WorkPermit
) -> None:
    (asked,) = mailed(mails, permits.APPROVAL, verified.permit_id)

    answer = api.post(asked["Approve"], data={"version": "1", "decision": "approved", "note": "  Mind the crane.  "})

    assert answer.status_code == 200, answer.text
    assert "you have approved this permit. It is approved now." in answer.text
    permit = permit_row(verified.permit_id)
    assert (permit.state, permit.version) == (PermitState.APPROVED, 2)
    (party,) = parties(id_of(verified.permit_id), PartyRole.APPROVER)
    assert (party.decision, party.note) == (Decision.APPROVED, "Mind the crane.")
    assert tasks_sent() == APPROVED_TASKS
    assert {task.params["args"][0] for task in all_rows(Task)} == {verified.permit_id}
    (used,) = all_rows(UsedLink)
    assert (used.party_id, used.decision) == (party.party_id, "approved")
    assert audited() == [("permits.decide", "Asha Pillai", str(verified.permit_id), "done", None)]


@pytest.mark.usefixtures("system")
def test_a_permit_moves_when_the_last_of_several_has_decided(api: httpx2.Client, mails: MailServer) -> None:
    permit = ask_for_permit(approvers=["Asha Pillai", "Arun Nair"], state=PermitState.VERIFIED)
    first, second = mailed(mails, permits.APPROVAL, permit.permit_id)

    assert "It is verified now." in api.post(first["Approve"]).text
    assert (state_of(permit), tasks_sent()) == (PermitState.VERIFIED, [])
    assert "It is approved now." in api.post(second["Approve"]).text
    assert (state_of(permit), tasks_sent()) == (PermitState.APPROVED, APPROVED_TASKS)


@pytest.mark.usefixtures("system")
def test_one_no_is_enough_and_its_words_reach_the_requester(api: httpx2.Client, mails: MailServer) -> None:
    permit = ask_for_permit(approvers=["Asha Pillai", "Arun Nair"], state=PermitState.VERIFIED)
    first, second = mailed(mails, permits.APPROVAL, permit.permit_id)

    assert api.post(first["Reject"], data={"note": "No crane on <Friday>."}).status_code == 200

    row = permit_row(permit.permit_id)
    assert (row.state, row.reason) == (PermitState.REJECTED, "No crane on <Friday>.")
    assert tasks_sent() == ["email.send_workpermit_notice"]
    late = api.post(second["Approve"])
    assert (late.status_code, state_of(permit)) == (409, PermitState.REJECTED)
    assert "the permit is rejected" in late.text


@pytest.mark.usefixtures("system")
def test_the_last_verifier_has_the_approvers_asked(api: httpx2.Client, mails: MailServer) -> None:
    permit = ask_for_permit()
    (asked,) = mailed(mails, permits.VERIFICATION_FROM_MOBILE, permit.permit_id)
    page = api.get(asked["Open the permit"]).text
    assert 'value="approved">Verify<' in page
    assert 'value="rejected">Reject<' in page

    answer = api.post(asked["Open the permit"], data={"decision": "approved", "version": "1"})

    assert "you have verified this permit. It is verified now." in answer.text
    assert (state_of(permit), tasks_sent()) == (PermitState.VERIFIED, VERIFIED_TASKS)


@pytest.mark.usefixtures("system")
def test_a_permit_without_verifiers_goes_on_at_once(api: httpx2.Client, mails: MailServer) -> None:
    permit = ask_for_permit(verifiers=(), approvers=["Asha Pillai"])
    (asked,) = mailed(mails, permits.APPROVAL, permit.permit_id)

    assert api.post(asked["Approve"]).status_code == 200

    row = permit_row(permit.permit_id)
    assert (row.state, row.version, tasks_sent()) == (PermitState.APPROVED, 3, APPROVED_TASKS)


@pytest.mark.usefixtures("system")
def test_an_approver_who_is_early_is_heard_when_the_verifiers_are_done(api: httpx2.Client, mails: MailServer) -> None:
    permit = ask_for_permit(approvers=["Asha Pillai"])
    (early,) = mailed(mails, permits.APPROVAL, permit.permit_id)
    (verifier,) = mailed(mails, permits.VERIFICATION, permit.permit_id)

    assert "It is submitted now." in api.post(early["Approve"]).text
    assert "It is approved now." in api.post(verifier["Verify"]).text

    assert (state_of(permit), tasks_sent()) == (PermitState.APPROVED, APPROVED_TASKS)


@pytest.mark.parametrize("note", ["\0", "x" * 5_000, "", " \n "])
@pytest.mark.usefixtures("ledger_database", "bus")
def test_any_words_can_be_kept(api: httpx2.Client, verified: WorkPermit, note: str) -> None:
    assert api.post(f"/decide/{token_of(verified)}", data={"note": note}).status_code == 200

    (party,) = parties(id_of(verified.permit_id), PartyRole.APPROVER)
    assert len(party.note or "") <= 500
    assert (party.note is None) == (note.strip() == "")


# --- refused and recorded --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", ["Approve", "Reject"])
@pytest.mark.usefixtures("ledger_database", "bus")
def test_a_link_that_was_used_is_refused_and_so_is_the_other_one_of_its_mail(
    api: httpx2.Client, mails: MailServer, verified: WorkPermit, again: str
) -> None:
    (asked,) = mailed(mails, permits.APPROVAL, verified.permit_id)
    (party,) = parties(id_of(verified.permit_id), PartyRole.APPROVER)
    api.post(asked["Approve"])

    replayed, looked = api.post(asked[again]), api.get(asked[again])

    assert (replayed.status_code, looked.status_code) == (410, 410)
    assert "This link was used on" in replayed.text
    assert "you approved the permit" in replayed.text
    assert (state_of(verified), tasks_sent()) == (PermitState.APPROVED, APPROVED_TASKS)
    refused = ("permits.decide", f"party {party.party_id}", str(verified.permit_id), "refused", "used")
    assert audited()[1:] == [refused, refused]


@pytest.mark.usefixtures("system")
def test_a_link_of_an_earlier_mail_is_refused_once_its_holder_has_decided(
    api: httpx2.Client, verified: WorkPermit
) -> None:
    earlier, later = token_of(verified, nonce="earlier"), token_of(verified, nonce="later")
    api.post(f"/decide/{later}")

    answer = api.post(f"/decide/{earlier}")

    assert (answer.status_code, state_of(verified)) == (410, PermitState.APPROVED)
    assert "You have approved this permit already." in answer.text


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.usefixtures("system")
def test_a_link_that_was_changed_is_refused_and_recorded_without_it(
    api: httpx2.Client, verified: WorkPermit, method: str
) -> None:
    other = ask_for_permit(reference="WP-2", state=PermitState.VERIFIED)
    token, foreign = token_of(verified), token_of(other)
    body, signature = token.split(".")
    forged = [
        f"{body}.{foreign.split('.')[1]}",
        f"{foreign.split('.')[0]}.{signature}",
        links.sign(links.read(token, links.keys(callboard.settings), datetime.now(UTC)), b"x" * 32),
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        "x",
    ]

    for one in forged:
        answer = api.request(method, f"/decide/{one}")

        assert answer.status_code == 403
        assert "This link is not as it was sent" in answer.text
    assert (state_of(verified), state_of(other)) == (PermitState.VERIFIED, PermitState.VERIFIED)
    assert audited() == [("permits.decide", "stranger", "", "refused", "changed")] * len(forged)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.usefixtures("system")
def test_a_link_that_expired_is_refused_and_recorded(api: httpx2.Client, verified: WorkPermit, method: str) -> None:
    (party,) = parties(id_of(verified.permit_id), PartyRole.APPROVER)

    answer = api.request(method, f"/decide/{token_of(verified, expires_at=datetime.now(UTC) - timedelta(seconds=1))}")

    assert (answer.status_code, state_of(verified)) == (410, PermitState.VERIFIED)
    assert ": ask for a new mail." in answer.text
    assert audited() == [("permits.decide", f"party {party.party_id}", str(verified.permit_id), "refused", "expired")]


@pytest.mark.parametrize("whose", ["another permit's", "nobody's", "the guard's", "a permit that is gone"])
@pytest.mark.usefixtures("system")
def test_a_link_of_ours_for_another_permit_or_party_is_refused(
    api: httpx2.Client, verified: WorkPermit, whose: str
) -> None:
    other = ask_for_permit(reference="WP-2", state=PermitState.VERIFIED)
    foreign = id_of(parties(id_of(other.permit_id), PartyRole.APPROVER)[0].party_id)
    token = {
        "another permit's": lambda: token_of(verified, party_id=foreign),
        "nobody's": lambda: token_of(verified, party_id=4711),
        "the guard's": lambda: token_of(verified, PartyRole.SECURITY),
        "a permit that is gone": lambda: token_of(verified, permit_id=4711),
    }[whose]()

    answer = api.post(f"/decide/{token}")

    assert answer.status_code == 404
    assert "you have no part in it any more" in answer.text
    assert audited()[0][3:] == ("refused", "gone")
    assert (state_of(verified), state_of(other), tasks_sent()) == (PermitState.VERIFIED, PermitState.VERIFIED, [])


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [({"decision": "rejected"}, 403, "changed"), ({"version": "7"}, 409, "stale")],
)
@pytest.mark.usefixtures("system")
def test_what_the_form_says_must_be_what_the_link_is_for(
    api: httpx2.Client, verified: WorkPermit, fields: dict[str, str], status: int, reason: str
) -> None:
    answer = api.post(f"/decide/{token_of(verified)}", data=fields)

    assert (answer.status_code, audited()[0][3:]) == (status, ("refused", reason))
    assert (state_of(verified), all_rows(UsedLink)) == (PermitState.VERIFIED, [])


@pytest.mark.parametrize("fields", [{}, {"decision": "pending"}, {"decision": "x"}, {"decision": ""}])
@pytest.mark.usefixtures("system")
def test_a_link_that_asks_which_wants_an_answer(
    api: httpx2.Client, verified: WorkPermit, fields: dict[str, str]
) -> None:
    answer = api.post(f"/decide/{token_of(verified, decision=None)}", data=fields)

    assert (answer.status_code, state_of(verified)) == (422, PermitState.VERIFIED)
    assert "press one of the buttons" in answer.text


@pytest.mark.parametrize("body", [b"decision=approved&" * 50, b"\xff\xfe=%zz", b"&&&=", b'{"decision": "approved"}'])
@pytest.mark.usefixtures("system")
def test_a_form_that_is_none_decides_nothing_where_a_choice_is_wanted(
    api: httpx2.Client, verified: WorkPermit, body: bytes
) -> None:
    answer = api.post(
        f"/decide/{token_of(verified, decision=None)}",
        content=body, headers={"content-type": "application/x-www-form-urlencoded"},
    )  # fmt: skip

    assert (answer.status_code, state_of(verified)) == (422, PermitState.VERIFIED)


@pytest.mark.parametrize("state", [PermitState.CANCELLED, PermitState.APPROVED, PermitState.RETURNED])
@pytest.mark.usefixtures("system")
def test_about_a_permit_that_is_closed_nothing_is_decided(api: httpx2.Client, state: PermitState) -> None:
    permit = ask_for_permit(state=state)

    answer = api.post(f"/decide/{token_of(permit)}")

    assert (answer.status_code, state_of(permit), audited()[0][4]) == (409, state, "closed")


@pytest.mark.usefixtures("system")
def test_a_verifier_is_too_late_once_the_permit_is_verified(api: httpx2.Client, verified: WorkPermit) -> None:
    assert api.post(f"/decide/{token_of(verified, PartyRole.VERIFIER)}").status_code == 409


@pytest.mark.usefixtures("system")
def test_who_has_left_decides_nothing(api: httpx2.Client, verified: WorkPermit) -> None:
    token = token_of(verified)
    with database.writing() as session:
        for who in all_rows(Person):
            who.is_active = False
            session.add(who)

    answer = api.post(f"/decide/{token}")

    assert (answer.status_code, state_of(verified), audited()[0][4]) == (403, PermitState.VERIFIED, "left")


# --- the web ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("system")
def test_a_page_has_no_script_and_tells_nobody_where_it_is(api: httpx2.Client, verified: WorkPermit) -> None:
    for answer in (api.get(f"/decide/{token_of(verified)}"), api.get("/decide/x"), api.post("/decide/x")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert not re.search(r"<script|style=| on\w+=|https?://", answer.text)
    style = api.get("/decide/style.css")
    assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert not re.search(r"url\(|@import", style.text)


@pytest.mark.usefixtures("system")
def test_markup_in_a_permit_is_text_on_its_page(api: httpx2.Client) -> None:
    hostile = "</textarea><script>alert(1)</script><img src=x onerror=alert(1)>\"'"
    permit = ask_for_permit(title=hostile, work=hostile, place=hostile, state=PermitState.VERIFIED)

    page = api.get(f"/decide/{token_of(permit)}").text

    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") == 3


@pytest.mark.usefixtures("system", "with_tokens")
def test_the_signature_is_enough_and_lets_in_nowhere_else(api: httpx2.Client, verified: WorkPermit) -> None:
    path = f"/decide/{token_of(verified)}"

    assert api.get(path).status_code == 200
    assert api.get("/api/tasks/").status_code == 401
    for tricked in ("/decide/../api/tasks/", "/decide/%2e%2e/api/tasks/", "/decide//api/tasks/", "/decide"):
        assert httpx2.get(f"{api.base_url}".rstrip("/") + tricked).status_code in (401, 404)
    assert api.post(path).status_code == 200
    assert audited() == [("permits.decide", "Asha Pillai", str(verified.permit_id), "done", None)]


@pytest.mark.usefixtures("system", "with_tokens")
def test_a_stranger_who_asks_too_often_is_told_to_wait_and_nothing_more_is_recorded() -> None:
    most = round(STRANGERS_PER_S * BURST_S)
    with serving(create_app()) as url, httpx2.Client(base_url=url) as own:
        answers = [own.post("/decide/x") for _ in range(most + 20)]

        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert "you ask too often" in refused[0].json()["detail"]
        assert len(audited()) == len(answers) - len(refused)
        assert own.get("/api/tasks/", headers=as_("read")).status_code == 200


@pytest.mark.parametrize("headers", [
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://evil.example"},
    {"origin": "null"},
])  # fmt: skip
@pytest.mark.usefixtures("system")
def test_a_page_of_another_site_cannot_have_a_browser_decide(
    api: httpx2.Client, verified: WorkPermit, headers: dict[str, str]
) -> None:
    answer = api.post(f"/decide/{token_of(verified)}", headers=headers)

    assert (answer.status_code, state_of(verified)) == (403, PermitState.VERIFIED)


@pytest.mark.usefixtures("system")
def test_the_form_of_the_page_itself_is_taken(api: httpx2.Client, verified: WorkPermit) -> None:
    own = {"sec-fetch-site": "same-origin", "origin": str(api.base_url).rstrip("/")}

    assert api.post(f"/decide/{token_of(verified)}", headers=own).status_code == 200


@pytest.mark.usefixtures("system")
def test_a_database_that_is_away_is_a_503_and_the_link_stands_in_no_answer(
    api: httpx2.Client, verified: WorkPermit, caplog: pytest.LogCaptureFixture
) -> None:
    token = token_of(verified)
    url = database.bound_url()
    database.bind("postgresql://nobody@127.0.0.1:1/nothing")
    try:
        answers = [api.get(f"/decide/{token}"), api.post(f"/decide/{token}")]
    finally:
        database.bind(url)

    assert [answer.status_code for answer in answers] == [503, 503]
    assert token not in "".join(answer.text for answer in answers) + caplog.text
    assert api.post(f"/decide/{token}").status_code == 200


# --- at one moment, and killed ---------------------------------------------------------------------------------------


def at_once(*acts: object) -> None:
    together = threading.Barrier(len(acts))

    def run(act: object) -> None:
        together.wait()
        act()  # type: ignore[operator]

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.usefixtures("ledger_database", "bus")
def test_of_many_who_press_at_one_moment_one_decides(api: httpx2.Client, verified: WorkPermit) -> None:
    tokens = [token_of(verified), token_of(verified, decision="rejected")] * 3
    statuses: list[int] = []

    at_once(*[lambda token=token: statuses.append(api.post(f"/decide/{token}").status_code) for token in tokens])

    assert sorted(statuses) == [200] + [410] * 5
    state = state_of(verified)
    assert tasks_sent() == (APPROVED_TASKS if state == PermitState.APPROVED else APPROVED_TASKS[1:])
    assert len(all_rows(UsedLink)) == 1
    assert sorted(entry[3] for entry in audited()) == ["done"] + ["refused"] * 5


@pytest.mark.usefixtures("ledger_database", "bus")
def test_two_last_approvers_at_one_moment_move_the_permit_once(api: httpx2.Client, mails: MailServer) -> None:
    for number in range(5):
        permit = ask_for_permit(
            reference=f"WP-{number}", approvers=["Asha Pillai", "Arun Nair"], state=PermitState.VERIFIED
        )
        first, second = mailed(mails, permits.APPROVAL, permit.permit_id)

        at_once(lambda: api.post(first["Approve"]), lambda: api.post(second["Approve"]))  # noqa: B023 - called at once

        row = permit_row(permit.permit_id)
        assert (row.state, row.version) == (PermitState.APPROVED, 2)
    assert tasks_sent() == sorted(APPROVED_TASKS * 5)


@pytest.mark.usefixtures("system")
def test_killed_at_any_point_a_link_has_decided_all_of_it_or_still_works() -> None:
    outcomes = []
    for point in range(1, 20):
        permit = ask_for_permit(reference=f"WP-{point}", approvers=["Asha Pillai"], state=PermitState.VERIFIED)
        token = token_of(permit, nonce=f"nonce-{point}")
        before = len(tasks_sent())

        def use() -> None:
            decisions.decide(
                token, None, version=1, note="", from_address="", now=datetime.now(UTC)  # noqa: B023 - called at once
            )  # fmt: skip

        if dies_at(point, use) is None:
            break
        has_decided = state_of(permit) == PermitState.APPROVED
        outcomes.append(has_decided)
        assert len(tasks_sent()) - before == (2 if has_decided else 0)
        if has_decided:
            with pytest.raises(links.LinkRefused, match="This link was used"):
                use()
        else:
            use()
        assert (state_of(permit), len(tasks_sent()) - before) == (PermitState.APPROVED, 2)
    assert set(outcomes) == {True, False}
