"""/docs: the OpenAPI document as a page for people, with an example of each call.

Ours, for FastAPI's own page loads its scripts from another host: without the internet it is white, and with it a
stranger's script acts here with the reader's rights. This one has no script, and nothing of other origins.

Must not: say anything that the document does not.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import jinja2
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape

PATH: Final = "/docs"
STYLE: Final = "/docs/style.css"
_HERE = Path(__file__).resolve().parent
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
}
_CODE = re.compile("`([^`]+)`")

Document = dict[str, Any]


def create_reference_router(document: Callable[[], Document]) -> APIRouter:
    """The page and its style.

    Args:
        document: makes the OpenAPI document.
    """
    router = APIRouter(include_in_schema=False)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = _words

    @router.get(STYLE)
    def style() -> Response:
        """What the page looks like."""
        return Response((_HERE / "static" / "reference.css").read_bytes(), media_type="text/css")

    @router.get(PATH)
    def look(request: Request) -> Response:
        """The page."""
        told = document()
        calls = list(_calls(told, str(request.base_url).rstrip("/")))
        groups = [(tag, [call for call in calls if call["tag"] == tag["name"]]) for tag in told["tags"]]
        page = environment.get_template("reference.html.j2").render(info=told["info"], groups=groups)
        return HTMLResponse(page, headers=_HEADERS)

    return router


def _words(text: str) -> Markup:
    """Text of a docstring, with what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - all of it is escaped before


def _calls(document: Document, base: str) -> Iterator[dict[str, Any]]:
    for path, methods in document["paths"].items():
        for method, call in methods.items():
            body = call.get("requestBody", {}).get("content", {}).get("application/json", {})
            sent = _example(document, body)
            parameters = [_followed(document, one) for one in call.get("parameters", ())]
            yield {
                "id": call["operationId"],
                "tag": call["tags"][0],
                "method": method.upper(),
                "path": path,
                "summary": call["summary"],
                "description": call.get("description", ""),
                "parameters": [one | {"type": _type(document, one["schema"])} for one in parameters],
                "body": [
                    (name, _type(document, field), name in needed, field.get("description", ""))
                    for shape in [_followed(document, body.get("schema", {}))]
                    for needed in [shape.get("required", ())]
                    for name, field in shape.get("properties", {}).items()
                ],
                "curl": _curl(method.upper(), base + path, sent, is_guarded="security" in call),
                "answers": [
                    (status, answer["description"], _pretty(_shown(document, answer)))
                    for status, answer in sorted(call["responses"].items())
                ],
            }


def _followed(document: Document, part: Document) -> Document:
    """What a reference leads to, or of two, one of which is null, the other; what is neither stays."""
    while True:
        if "$ref" in part:
            found: Any = document
            for step in part["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            part = found
        elif len(part.get("anyOf", ())) == 2 and part["anyOf"][1] == {"type": "null"}:
            part = part["anyOf"][0]
        else:
            return part


def _shown(document: Document, answer: Document) -> Any:
    return next((_example(document, content) for content in answer.get("content", {}).values()), None)


def _example(document: Document, content: Document) -> Any:
    """The example of a body; None: it has none."""
    if "example" in content:
        return content["example"]
    schema = _followed(document, content.get("schema", {}))
    if schema.get("type") == "array":
        item = _example(document, {"schema": schema["items"]})
        return None if item is None else [item]
    examples: list[Any] = schema.get("examples", [])
    return examples[0] if examples else None


def _type(document: Document, schema: Document) -> str:
    """A schema in a few words."""
    schema = _followed(document, schema)
    either: list[Document] = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if either:
        return " or ".join(dict.fromkeys(_type(document, one) for one in either if one.get("type") != "null"))
    if "enum" in schema:
        return ", ".join(str(one) for one in schema["enum"])
    name = str(schema.get("format") or schema.get("type", "anything"))
    if name == "array":
        return f"list of {_type(document, schema.get('items', {}))}"
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f"{name} {_number(least)}–{_number(most)}"
    return f"{name}, at most {schema['maxLength']} characters" if "maxLength" in schema else name


def _number(bound: float) -> str:
    return f"{int(bound) if float(bound).is_integer() else bound:,}"


def _curl(method: str, url: str, sent: Any, *, is_guarded: bool) -> str:
    parts = ["curl", *(() if method == "GET" else ("-X", method)), shlex.quote(url)]
    if is_guarded:
        parts += ["-H", "'Authorization: Bearer cb_…'"]
    if sent is not None:
        parts += ["-H", "'Content-Type: application/json'", "-d", shlex.quote(json.dumps(sent, ensure_ascii=False))]
    return " ".join(parts)


def _pretty(example: Any) -> str:
    if example is None:
        return ""
    return example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
