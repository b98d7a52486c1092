"""A coroutine that loops for ever counts if it is started as a task, wherever; nothing less counts."""

import pytest

from tests.periodic.elsewhere.conftest import Planted

LOOP = """import asyncio
async def poll(self=None):
    while True:
        work()
        await asyncio.sleep(60)
"""


@pytest.mark.parametrize(
    "start",
    ["asyncio.create_task(poll())", "asyncio.get_event_loop().create_task(poll())", "asyncio.ensure_future(poll())",
     "asyncio.gather(other(), poll())", "asyncio.run(poll())", "loop.run_until_complete(poll())",
     "tasks.append(asyncio.create_task(poll(), name='poll'))", "group.start_soon(poll)",
     "asyncio.create_task(watched(poll()))", "coroutine = poll()\nasyncio.create_task(coroutine)",
     "many = [poll(), other()]\nasyncio.gather(*many)",
     "async def main():\n    await prepare()\n    await poll()\nasyncio.run(main())"],
)  # fmt: skip
def test_a_loop_that_is_started_as_a_task_is_found(hits: Planted, start: str) -> None:
    assert hits({"app.py": f"{LOOP}{start}\n"}) == [("app.py", 3, "poll")]


@pytest.mark.parametrize(
    "code",
    [
        LOOP.replace("import asyncio", "from asyncio import sleep as nap").replace("asyncio.sleep", "nap"),
        LOOP.replace("import asyncio", "import asyncio as aio").replace("asyncio.", "aio."),
        LOOP.replace("while True:", "while 1:"),
        LOOP.replace("asyncio.sleep(60)", "asyncio.wait_for(stop.wait(), timeout=60)"),
        LOOP.replace("work()", "try:\n            work()\n        except asyncio.CancelledError:\n            break"),
        LOOP.replace("work()", "if self.stopping:\n            return"),
        LOOP.replace("work()", "for one in many:\n            if one:\n                break"),
    ],
)
def test_a_loop_is_found_in_every_spelling(hits: Planted, code: str) -> None:
    assert hits({"app.py": f"{code}import asyncio\nasyncio.create_task(poll())\n"}) == [("app.py", 3, "poll")]


def test_a_method_that_its_object_starts_is_found(hits: Planted) -> None:
    code = """
        import asyncio

        class Poller:
            async def start(self):
                self.task = asyncio.create_task(self._run())

            async def _run(self):
                while True:
                    await asyncio.sleep(1)
        """

    assert hits({"app.py": code}) == [("app.py", 8, "_run")]


@pytest.mark.parametrize(
    "start",
    ["from app.jobs import poll\nasyncio.create_task(poll())", "from .jobs import poll as p\nasyncio.create_task(p())",
     "from . import jobs\nasyncio.create_task(jobs.poll())", "import app.jobs\nasyncio.create_task(app.jobs.poll())",
     "from app import poll\nasyncio.create_task(poll())"],
)  # fmt: skip
def test_a_loop_that_another_file_starts_is_found(hits: Planted, start: str) -> None:
    assert hits({"app/jobs.py": LOOP, "app/main.py": f"import asyncio\n{start}\n"}) == [("app/jobs.py", 3, "poll")]


@pytest.mark.parametrize(
    "code",
    [
        LOOP,
        LOOP + "async def main():\n    await poll()\n",
        "import asyncio\nasync def once():\n    await asyncio.sleep(1)\nasyncio.create_task(once())\n",
        LOOP.replace("work()", "if done():\n            return 5") + "asyncio.create_task(poll())\n",
        LOOP.replace("work()", "if done():\n            break") + "asyncio.create_task(poll())\n",
        LOOP.replace("await asyncio.sleep(60)", "await queue.get()") + "asyncio.create_task(poll())\n",
        LOOP.replace("work()", "yield 1") + "asyncio.create_task(poll())\n",
        LOOP.replace("        work()\n        await asyncio.sleep(60)\n",
                     "        try:\n            await queue.get()\n        except OSError:\n            "
                     "await asyncio.sleep(60)\n") + "asyncio.create_task(poll())\n",
        LOOP.replace("while True:", "while waiting():") + "asyncio.create_task(poll())\n",
    ],
)  # fmt: skip
def test_what_ends_or_waits_or_is_never_started_is_none(hits: Planted, code: str) -> None:
    assert hits({"app.py": code}) == []


def test_a_function_of_the_same_name_elsewhere_starts_nothing(hits: Planted) -> None:
    other = "import asyncio\nasync def poll(): ...\nasyncio.create_task(poll())\nasyncio.create_task(other.poll())\n"

    assert hits({"app/jobs.py": LOOP, "app/main.py": other}) == []
