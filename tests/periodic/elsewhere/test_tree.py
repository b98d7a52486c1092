"""What is looked at, what is passed over, and what a hostile tree cannot do."""

import os
import sysconfig
from pathlib import Path

import pytest

from periodic.elsewhere import look
from periodic.elsewhere.search import MAX_FILE_BYTES
from tests.periodic.elsewhere.conftest import Planted, plant, shape
from workers.errors import InvalidTask

BEAT = "beat_schedule = {'a': {'task': 't.a'}}\n"
CLEAN_MODULE = """import asyncio

async def fetch(session, url):
    for attempt in range(3):
        try:
            return await session.get(url)
        except OSError:
            await asyncio.sleep(attempt)

async def main():
    task = asyncio.create_task(fetch(None, "x"))
    while True:
        if task.done():
            break
        await asyncio.sleep(1)
"""
HAVE_LOOPS = {"amqtt", "pysnmp", "websockets"}
"""Libraries that start tasks which do something every so often for ever, as each of their hits shows."""
CLEAN_MANIFEST = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 2\n"


def test_what_only_resembles_a_schedule_is_none(hits: Planted) -> None:
    assert (
        hits({"app/jobs.py": CLEAN_MODULE, "deploy/web.yaml": CLEAN_MANIFEST, "bin/install.sh": "crontab -r\n"}) == []
    )


def test_thousands_of_clean_files_the_libraries_of_this_environment_have_none() -> None:
    libraries = Path(sysconfig.get_paths()["purelib"])

    found = look([libraries])

    assert found.files > 3_000
    by_library = {Path(hit.path).relative_to(libraries).parts[0]: hit for hit in found.hits}
    assert [f"{hit.place} {hit.name}" for name, hit in by_library.items() if name not in HAVE_LOOPS] == []


def test_what_is_not_the_code_base_s_own_is_passed_over(hits: Planted) -> None:
    assert hits(
        {
            "app/beat.py": BEAT,
            ".git/beat.py": BEAT,
            ".venv/beat.py": BEAT,
            "node_modules/x/beat.py": BEAT,
            "env/pyvenv.cfg": "",
            "env/beat.py": BEAT,
            "lib/site-packages/beat.py": BEAT,
            "app/__pycache__/beat.py": BEAT,
        }
    ) == [("app/beat.py", 1, "a")]


def test_a_root_that_is_named_is_looked_at_whatever_it_is(tmp_path: Path) -> None:
    plant(tmp_path, {".venv/lib/site-packages/beat.py": BEAT, ".hidden/crontab": "@daily x\n"})

    found = look([tmp_path / ".venv/lib/site-packages", tmp_path / ".hidden" / "crontab"])

    assert [hit.line for hit in found.hits] == [1, 1]


def test_a_file_that_is_named_twice_or_linked_counts_once(tmp_path: Path) -> None:
    plant(tmp_path, {"app/beat.py": BEAT})
    (tmp_path / "app" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "app" / "zzz.py").symlink_to(tmp_path / "app" / "beat.py")
    (tmp_path / "nowhere.py").symlink_to(tmp_path / "gone.py")

    found = look([tmp_path, tmp_path / "app", tmp_path / "app" / "beat.py"])

    assert shape(found, tmp_path) == [("app/beat.py", 1, "a")]


@pytest.mark.parametrize(
    ("name", "content", "warning"),
    [
        ("broken.py", b"beat_schedule = {\n", "cannot be parsed (line 1"),
        ("nul.py", b"beat_schedule = 1\x00\n", "cannot be parsed"),
        ("bytes.py", b"# beat_schedule\n\xff\xfe\x80 = 1\n", "cannot be parsed"),
        ("deep.py", b"beat_schedule = " + b"(" * 5_000 + b")" * 5_000, "cannot be parsed"),
        ("chain.py", b"add_job = " + b"+".join([b"f().add_job(1)"] * 3_000), "nested|parsed"),
        ("huge.yaml", b"kind: CronJob\n" * (MAX_FILE_BYTES // 14 + 1), "more than 4,194,304"),
    ],
)
def test_what_cannot_be_read_is_a_warning_and_the_rest_is_found(
    tmp_path: Path, name: str, content: bytes, warning: str
) -> None:
    plant(tmp_path, {name: content, "beat.py": BEAT})

    found = look([tmp_path])

    assert shape(found, tmp_path) == [("beat.py", 1, "a")]
    (said,) = found.warnings
    assert name in said
    assert any(part in said for part in warning.split("|"))


def test_broken_bytes_and_pipes_are_survived(tmp_path: Path) -> None:
    plant(tmp_path, {"x.yaml": b"\xff\x00kind: CronJob\n\x80spec:", "crontab": b"\xff\xfe\x00@daily", "beat.py": BEAT})
    os.mkfifo(tmp_path / "pipe.py")
    os.mkfifo(tmp_path / "pipe")

    assert shape(look([tmp_path]), tmp_path) == [("beat.py", 1, "a")]


def test_more_files_than_allowed_is_a_problem_and_not_silence(tmp_path: Path) -> None:
    plant(tmp_path, {f"{number}.py": "" for number in range(4)})

    found = look([tmp_path], max_files=3)

    assert found.problems == [f"{tmp_path}: has more than 3 files, the rest was not looked at: name the folders with "
                              "code and manifests"]  # fmt: skip


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidTask, match="name one that exists"):
        look([tmp_path / "gone"])


def test_what_a_file_says_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    plant(tmp_path, {"crontab": "@daily \x1b]0;owned\x07" + "x" * 500, "a\x1b[31m.py": BEAT})

    hits = look([tmp_path]).hits

    assert len(hits) == 2
    for hit in hits:
        assert f"{hit.path}{hit.name}".isprintable()
        assert len(hit.name) <= 100


@pytest.mark.parametrize(
    ("files", "is_accepted"),
    [
        ({"crontab": "# callboard: also-scheduled the old host until May\n@daily x\n"}, True),
        ({"crontab": "# callboard: also-scheduled old host\n# and more about it\n@daily x\n"}, True),
        ({"beat.py": "beat_schedule = {\n  'a': {'task': 't'},  # callboard: also-scheduled drains in May\n}\n"}, True),
        ({"j.yaml": "apiVersion: v1\nkind: CronJob # callboard: also-scheduled x\nspec: {}\n"}, True),
        ({"j.yaml": "apiVersion: v1\n{{/* callboard: also-scheduled x */}}\nkind: CronJob\nspec: {}\n"}, True),
        ({"crontab": "# callboard: also-scheduled old host\n\n@daily x\n"}, False),
        ({"crontab": "# callboard: also-scheduled old host\n@daily x\n@daily y\n"}, False),
        ({"beat.py": "why = 'callboard: also-scheduled x'\nbeat_schedule = {'a': {'task': 't'}}\n"}, False),
    ],
)  # fmt: skip
def test_a_mark_accepts_what_is_on_its_line_or_below_it(
    hits: Planted, files: dict[str, str | bytes], is_accepted: bool
) -> None:
    assert (hits(files) == []) is is_accepted


@pytest.mark.parametrize("mark", ["# callboard: also-scheduled", "# callboard: also-scheduled:  "])
def test_a_mark_without_a_reason_accepts_nothing(tmp_path: Path, mark: str) -> None:
    (hit,) = look([plant(tmp_path, {"crontab": f"{mark}\n@daily x\n"})]).hits

    assert hit.has_empty_mark
