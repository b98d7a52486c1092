"""`tokens new|list`: API tokens. They live in the setting CALLBOARD_API_TOKENS; nothing is stored by these verbs."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from workers import callboard
from workers.access import Role, new_token
from workers.cli.show import Json, print_json
from workers.errors import InvalidTask

app = typer.Typer(help="Make API tokens, and see who has one.", no_args_is_help=True)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Who will use it; the audit log names it.")],
    role: Annotated[Role, typer.Option(help="read: see; operate: send, cancel, retry too; admin: all.")],
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Days until it ends; without: never.")] = None,
    as_json: Json = False,
) -> None:
    """Make a token: prints the secret, which is shown only now, and the line for CALLBOARD_API_TOKENS."""
    try:
        secret, token = new_token(name, role, None if days is None else datetime.now(UTC) + timedelta(days=days))
    except ValueError as error:
        raise InvalidTask(f"name: {error}", field="name") from None
    if as_json:
        print_json({"token": secret, "line": token.line()})
        return
    typer.echo(f"token (give it to {name}; it is not kept): {secret}")
    typer.echo(f"line (add it to CALLBOARD_API_TOKENS):     {token.line()}")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Show who has a token, with what role and until when."""
    tokens = callboard.settings.api_tokens
    if as_json:
        rows = [{"name": token.name, "role": token.role, "expires_at": _end(token.expires_at)} for token in tokens]
        print_json(rows)
        return
    if not tokens:
        typer.echo("no tokens are set: the API answers only this machine, which may do everything", err=True)
    for token in tokens:
        typer.echo(f"{token.name:<20} {token.role:<8} until {_end(token.expires_at) or 'taken out'}")


def _end(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
