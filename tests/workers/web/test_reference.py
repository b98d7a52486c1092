"""/docs: every call of the OpenAPI document with an example; no script, and nothing of other hosts."""

import httpx2
import pytest

from tests.workers.web.tokens import with_tokens

__all__ = ["with_tokens"]
pytestmark = pytest.mark.usefixtures("refusing")


def test_every_call_of_the_document_is_on_the_page_with_an_example(api: httpx2.Client) -> None:
    page = api.get("/docs").text

    calls = api.get("/openapi.json").json()["paths"]
    for path, methods in calls.items():
        for call in methods.values():
            assert f'<details id="{call["operationId"]}">' in page
            assert f"<code>{path}</code>" in page
    assert "curl -X POST" in page
    assert "<i>integer 1–10; in query</i>" in page
    assert "&#34;task_name&#34;: &#34;email.send_confirmation&#34;}&#39;</pre>" in page


def test_nothing_on_it_comes_from_elsewhere_or_runs(api: httpx2.Client) -> None:
    answer = api.get("/docs")

    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; ")
    assert "unsafe" not in policy
    assert "<script" not in answer.text
    assert "//" not in answer.text.replace(str(api.base_url), "").split("</head>")[0]
    assert api.get("/docs/style.css").headers["content-type"].startswith("text/css")


@pytest.mark.usefixtures("with_tokens")
def test_with_tokens_the_examples_show_one(api: httpx2.Client) -> None:
    assert "Authorization: Bearer cb_…" in api.get("/docs").text


def test_a_host_that_is_a_script_is_shown_as_text(api: httpx2.Client) -> None:
    answer = api.get("/docs", headers={"host": "<script>alert(1)</script>.localhost"})

    assert "<script" not in answer.text


@pytest.mark.parametrize("path", ["/redoc", "/docs/oauth2-redirect"])
def test_the_frameworks_own_pages_are_gone(api: httpx2.Client, path: str) -> None:
    assert api.get(path).status_code == 404
