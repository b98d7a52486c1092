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
        LOOP.replace("while True:", "while not self.stopped:"),
        LOOP.replace("asyncio.sleep(60)", "asyncio.wait([task], timeout=60)"),
        LOOP.replace("while True:", "while not self._stop.is_set():"),
        LOOP.replace("while True:", "while not (shutdown or stopping.is_set()):"),
        LOOP.replace("while True:", "while self.running:"),
        LOOP.replace("while True:", "while self.running and not self._closed:"),
        LOOP.replace("while True:", "while not stop.is_set():").replace(
            "await asyncio.sleep(60)",
            "try: await asyncio.wait_for(stop.wait(), 60)\n        except TimeoutError: pass"),
        LOOP.replace("while True:", "while not stop.is_set():").replace(
            "await asyncio.sleep(60)",
            "with suppress(TimeoutError):\n            await asyncio.wait_for(stop.wait(), 60)"),
        LOOP.replace("await asyncio.sleep(60)", "try:\n            async with asyncio.timeout(60): await stop.wait()\n"
                     "            return\n        except TimeoutError: pass"),
        LOOP.replace("await asyncio.sleep(60)", "try: await asyncio.wait_for(stop.wait(), 60)\n"
                     "        except TimeoutError: continue\n        else: break"),
        LOOP.replace("while True:", "for _ in itertools.count():").replace("asyncio\n", "asyncio, itertools\n", 1),
        LOOP.replace("while True:", "for n in count(1):").replace("\n", "; from itertools import count\n", 1),
        LOOP.replace("work()", "for one in many:\n            if one:\n                break"),
    ],
)  # fmt: skip
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


METHOD = """import asyncio
class Poller:
    async def run(self):
        while not self.stopped:
            await self.poll()
            await asyncio.sleep(60)
"""


@pytest.mark.parametrize(
    "start",
    ["from app.jobs import Poller\nasyncio.run(Poller().run())",
     "from .jobs import Poller as P\np = P()\nasyncio.create_task(p.run())",
     "import app.jobs\nasyncio.create_task(app.jobs.Poller(1).run())",
     "from app import jobs\npoller = jobs.Poller()\nasyncio.gather(poller.run())"],
)  # fmt: skip
def test_a_method_that_another_file_starts_is_found(hits: Planted, start: str) -> None:
    assert hits({"app/jobs.py": METHOD, "app/main.py": f"import asyncio\n{start}\n"}) == [("app/jobs.py", 4, "run")]


def test_a_method_of_an_object_that_is_made_where_it_starts_is_found(hits: Planted) -> None:
    assert hits({"app.py": f"{METHOD}asyncio.run(Poller().run())\n"}) == [("app.py", 4, "run")]


def test_a_method_of_the_same_name_of_another_class_starts_nothing(hits: Planted) -> None:
    other = "import asyncio\nfrom app.jobs import helper\nfrom uvicorn import Server\nasyncio.run(Server().run())\n"

    assert hits({"app/jobs.py": METHOD, "app/main.py": other}) == []


@pytest.mark.parametrize(
    "code",
    ["def tick(loop):\n    work()\n    loop.call_later(60, tick, loop)\n",
     "def tick():\n    loop.call_at(loop.time() + 60, lambda: tick())\n",
     "def tick():\n    try:\n        work()\n    finally:\n        loop.call_later(60, partial(tick))\n",
     "class Ticker:\n  def tick(self):\n    if not self.stopped:\n      self.h = self.loop.call_later(60, self.tick)\n",
     "class Ticker:\n  def tick(self):\n    if self.stopped:\n      return\n    self.loop.call_later(60, self.tick)\n"],
)  # fmt: skip
def test_a_function_that_has_itself_called_again_is_found(hits: Planted, code: str) -> None:
    ((file, line, name),) = hits({"app.py": code})

    assert (file, name) == ("app.py", "tick")
    assert "call_" in code.splitlines()[line - 1]


@pytest.mark.parametrize(
    "code",
    ["def tick():\n    loop.call_later(60, other)\n", "def tick(other):\n    loop.call_later(60, other.tick)\n",
     "def tick():\n    if retries < 3:\n        loop.call_later(60, tick)\n",
     "def tick():\n    if done():\n        return\n    loop.call_later(60, tick)\n",
     "def tick():\n    try:\n        work()\n    except OSError:\n        loop.call_later(60, tick)\n"],
)  # fmt: skip
def test_a_function_that_has_itself_called_again_under_a_condition_is_none(hits: Planted, code: str) -> None:
    assert hits({"app.py": code}) == []


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
        LOOP.replace("sleep(60)", "sleep(0)") + "asyncio.create_task(poll())\n",
        LOOP.replace("while True:", "while not self.ready:") + "asyncio.create_task(poll())\n",
        LOOP.replace("while True:", "while not task.done():") + "asyncio.create_task(poll())\n",
        LOOP.replace("while True:", "while process.running:") + "asyncio.create_task(poll())\n",
        LOOP.replace("while True:", "while not stop and tries < 5:") + "asyncio.create_task(poll())\n",
        LOOP.replace("while True:", "while not should_exit:").replace("work()", "should_exit = work()")
        + "asyncio.create_task(poll())\n",
        LOOP.replace("while True:", "while not self.stopped:").replace("work()", "pass")
        + "asyncio.create_task(poll())\n",
        LOOP.replace("while True:", "for n in range(5):") + "asyncio.create_task(poll())\n",
        LOOP.replace("while True:", "while waiting():") + "asyncio.create_task(poll())\n",
    ],
)  # fmt: skip
def test_what_ends_or_waits_or_is_never_started_is_none(hits: Planted, code: str) -> None:
    assert hits({"app.py": code}) == []


def test_a_function_of_the_same_name_elsewhere_starts_nothing(hits: Planted) -> None:
    other = "import asyncio\nasync def poll(): ...\nasyncio.create_task(poll())\nasyncio.create_task(other.poll())\n"

    assert hits({"app/jobs.py": LOOP, "app/main.py": other}) == []
