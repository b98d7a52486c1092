"""The pages behind the links in mails: a permit, and the button that decides.

    GET  /decide/<token>    shows what is asked; changes nothing, so that who scans mails for bad links decides nothing
    POST /decide/<token>    decides (workers.decisions)

Nobody logs in: the signature says who may decide what. So no other site can have a browser decide either, which would
have to know the link. The pages have no script, no inline style, nothing of other origins, and tell no other site
where they are. A link that is refused is in the audit log, by whom it was for, or as a stranger's if it is not ours;
never the link itself, which would let in whoever reads that log. Requests are limited by the guard (workers.web.auth).

Must not: decide anything itself.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

import jinja2
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from models.permit import Decision, PartyRole
from workers import audit, decisions
from workers.decisions import NOTE_MAX_CHARS, Question
from workers.errors import PermanentError
from workers.links import PATH, LinkRefused
from workers.notifications import permits
from workers.web.route import make_router

_HERE = Path(__file__).resolve().parent
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    # why not no-referrer: with it browsers send `Origin: null`, and the guard against other sites refuses that.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}
_STATUS = {"changed": 403, "left": 403, "gone": 404, "closed": 409, "stale": 409, "expired": 410, "used": 410,
           "decided": 410, "unclear": 422}  # fmt: skip
"""Why a link is refused → the status of the answer."""
_MAX_FIELDS = 10

Fields = Mapping[str, str]


async def _fields(request: Request) -> Fields:
    """The fields of the form; none where the body is no form."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        return {}
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return {name: values[0] for name, values in parse_qs(body, max_num_fields=_MAX_FIELDS).items()}
    except ValueError:
        return {}


def create_decision_router() -> APIRouter:
    """The pages below /decide, which anybody may open who has a link."""
    router = make_router("permits", prefix=PATH.rstrip("/"), responses={})

    @router.get("/style.css", include_in_schema=False)
    def style() -> Response:
        """What the pages look like."""
        content = (_HERE / "static" / "decision.css").read_bytes()
        return Response(content, media_type="text/css", headers={"X-Content-Type-Options": "nosniff"})

    @router.get("/{token}", include_in_schema=False)
    def look(token: str, request: Request) -> Response:
        """What a link asks."""
        try:
            question = decisions.ask(token, now=datetime.now(UTC))
        except LinkRefused as refused:
            with audit.sheet_of("", _address(request), "REST") as sheet:
                _note(refused)
                sheet.write(audit.REFUSED, status=_STATUS[refused.reason])
            return _refusal(refused)
        except PermanentError as unset:
            return _page("decision_refused.html.j2", 503, said=str(unset))
        return _page("decision_asked.html.j2", 200, **_asked(question))

    @router.post("/{token}", include_in_schema=False)
    def decide(token: str, request: Request, fields: Annotated[Fields, Depends(_fields)]) -> Response:
        """Decide."""
        version = fields.get("version", "")
        try:
            decided = decisions.decide(
                token,
                next((one for one in Decision if one == fields.get("decision")), None),
                version=int(version) if version.isascii() and version.isdecimal() and len(version) < 10 else None,
                note=fields.get("note", ""),
                from_address=_address(request),
                now=datetime.now(UTC),
            )
        except LinkRefused as refused:
            _note(refused)
            return _refusal(refused)
        except PermanentError as unset:
            return _page("decision_refused.html.j2", 503, said=str(unset))
        view, member = decided.question.view, decided.question.member
        details = {"reference": view.permit.reference, "decision": decided.decision, "state": decided.state}
        audit.record("permits.decide", view.permit.permit_id or "", who=member.person.name, details=details)
        return _page("decision_made.html.j2", 200, **_asked(decided.question), made=decided)

    return router


def _asked(question: Question) -> dict[str, Any]:
    verb = "Verify" if question.member.party.role == PartyRole.VERIFIER else "Approve"
    return {
        "permit": question.view.permit,
        "facts": permits.facts(question.view),
        "person": question.member.person,
        "buttons": [
            (decision, label)
            for decision, label in ((Decision.APPROVED, verb), (Decision.REJECTED, "Reject"))
            if question.link.decision in (None, decision)
        ],
        "note_max_chars": NOTE_MAX_CHARS,
    }


def _note(refused: LinkRefused) -> None:
    """Put it on the audit log's open sheet: who it was for, if that is known to be true."""
    link = refused.link
    who, target = ("stranger", "") if link is None else (f"party {link.party_id}", link.permit_id)
    audit.record("permits.decide", target, who=who, details={"reason": refused.reason})


def _refusal(refused: LinkRefused) -> Response:
    return _page("decision_refused.html.j2", _STATUS[refused.reason], said=str(refused))


def _address(request: Request) -> str:
    return request.client.host if request.client else "unix"


def _page(template: str, status: int, **shown: Any) -> Response:
    return HTMLResponse(_environment().get_template(template).render(shown), status, _HEADERS)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
