"""What `top` draws fits the terminal, whatever there is to show, and shows first what is the matter."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from workers.cli.top_picture import draw

NOW = datetime.now(UTC)
STATS = {
    "since": NOW - timedelta(minutes=5), "until": NOW, "completed": 1_200, "failed": 3, "cancelled": 0,
    "success_rate": 1_200 / 1_203, "pending": 7, "running": 2,
}  # fmt: skip


def queue(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "waiting": 0, "delayed": 0, "running": 0, "oldest_age_s": 0.0, "workers": 1, "paused": False,
            **more}  # fmt: skip


def worker(name: str, tasks: int = 0) -> dict[str, Any]:
    running = [
        {"task_id": f"{name:0>31}-{number:04}", "task_name": "integrations.synchronise_all_devices",
         "started_at": NOW - timedelta(seconds=number), "progress": number / 100}
        for number in range(tasks)
    ]  # fmt: skip
    return {"worker_id": name, "threads": 8, "heartbeat_at": NOW, "tasks": running}


def shown(**more: Any) -> dict[str, Any]:
    return {"at": datetime.now(UTC), "errors": [], "stats": STATS, "queues": [], "workers": [], "alerts": [], **more}


def drawn(snapshot: dict[str, Any], width: int = 80, height: int | None = None) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, height=height or 1_000).print(draw(snapshot, height))
    return out.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 50), (60, 16), (40, 10)])
def test_it_fits_the_terminal_and_counts_what_has_no_room(width: int, height: int) -> None:
    crowd = shown(
        queues=[queue(f"q{number}", waiting=number) for number in range(30)],
        workers=[worker(f"host:{number}:abc", tasks=8) for number in range(12)],
        alerts=[{"message": "the disk is full " * 20}, {"message": "another"}],
    )

    lines = drawn(crowd, width, height)

    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert any(line.startswith("and ") and " more" in line for line in lines)


def test_all_is_shown_where_there_is_room() -> None:
    lines = drawn(shown(queues=[queue("a"), queue("b")], workers=[worker("w:1:x", tasks=2)]), height=24)

    assert not any(line.startswith("and ") for line in lines)
    assert sum("integrations.synchronise" in line for line in lines) == 2


def test_a_queue_in_which_something_waits_for_nothing_comes_first() -> None:
    lines = drawn(shown(queues=[
        queue("busy", waiting=50, running=8), queue("alone", waiting=1, workers=0), queue("idle"),
        queue("shut", waiting=2, paused=True),
    ]))  # fmt: skip

    names = [line.split()[0] for line in lines if line.split() and line.split()[0] in ("busy", "alone", "shut", "idle")]
    assert names == ["shut", "alone", "busy", "idle"]
    assert any(line.startswith("alone") and "nobody serves it" in line for line in lines)
    assert any(line.startswith("shut") and "paused" in line for line in lines)


def test_the_summary_says_rates_and_the_newest_alert() -> None:
    text = "\n".join(drawn(shown(alerts=[{"message": "queue email is old"}, {"message": "x"}, {"message": "y"}])))

    assert "now 2 running, 7 pending; in 5 min 1,200 completed, 3 failed, 0 cancelled" in text
    assert "4.0 ended a second, 99.8% of them successful" in text
    assert "alert: queue email is old (and 2 more: callboard alerts list)" in text


def test_what_cannot_be_read_is_said_and_the_picture_says_how_old_it_is() -> None:
    text = "\n".join(drawn(shown(
        at=datetime.now(UTC) - timedelta(seconds=20), errors=["Redis does not answer"], queues=None, stats=None,
        alerts=None, workers=None,
    )))  # fmt: skip

    assert "Redis does not answer" in text
    assert "20 s old: the servers do not answer" in text


def test_control_characters_of_strangers_do_not_reach_the_terminal() -> None:
    lines = drawn(shown(alerts=[{"message": "a\x1b[2Jb\rc"}], queues=[queue("e\x1b[31mvil")]))

    assert not any("\x1b" in line or "\r" in line for line in lines)
    assert any("a\\x1b[2Jb\\rc" in line for line in lines)
