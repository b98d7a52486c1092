"""`stats`: what ended how in a span of time, in all and by parts of it."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from workers import statistics
from workers.cli.filters import moment
from workers.cli.show import Json, print_json, print_table

BAR_CHARS = 30


def stats(
    since: Annotated[str, typer.Option(help="Then or later: 2026-11-22T12:00, or 2h for two hours ago.")] = "1d",
    until: Annotated[str | None, typer.Option(help="Before then; else now.")] = None,
    bucket_s: Annotated[int | None, typer.Option("--bucket", metavar="SECONDS", help="Also by parts of so many: "
                                                 "1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10800, 21600 or 86400.")]
    = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show what ended how in the last day, or another span of at most 31."""
    now = datetime.now(UTC)
    begin, end = moment(since, "since", now), now if until is None else moment(until, "until", now)
    found = statistics.stats(begin, end)
    if bucket_s is not None:
        found["bucket_s"] = bucket_s
        found["buckets"] = statistics.timeseries(begin, end, bucket_s)["buckets"]
    if as_json:
        print_json(found)
        return
    rate = found["success_rate"]
    success = "" if rate is None else f"; {rate:.1%} successful"
    typer.echo(f"{found['since']:%Y-%m-%d %H:%M:%S} – {found['until']:%Y-%m-%d %H:%M:%S} UTC")
    typer.echo(
        f"{found['completed']:,} completed, {found['failed']:,} failed, {found['cancelled']:,} cancelled{success}"
    )
    typer.echo(f"now {found['running']:,} running, {found['pending']:,} pending")
    if bucket_s is not None:
        _show(found["buckets"])


def _show(buckets: list[dict[str, Any]]) -> None:
    most = max((_ended(one) for one in buckets), default=0)
    print_table(
        ("from (UTC)", "completed", "failed", "cancelled", ""),
        [
            (f"{one['at']:%m-%d %H:%M:%S}", one["completed"], one["failed"], one["cancelled"],
             "█" * round(BAR_CHARS * _ended(one) / max(1, most)))
            for one in buckets
        ],
    )  # fmt: skip


def _ended(one: dict[str, Any]) -> int:
    ended: int = one["completed"] + one["failed"] + one["cancelled"]
    return ended
