"""What schemathesis checks besides its own: what the document allows is never refused for its form."""

import schemathesis


@schemathesis.check
def nothing_allowed_is_refused_for_its_form(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """A refusal of type `invalid-request` says that a shape did not fit: then the document did not tell of it."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 422:
        return
    problem = response.json()
    assert problem["type"] != "invalid-request", f"allowed by the document, and refused: {problem['detail']}"
