"""asyncio loops that run for ever: a schedule of their own, which dies with its process and leaves no row.

A loop counts if all of this is true:
  - `while True:` (or another constant) in an `async def` that is no generator;
  - it pauses: `await asyncio.sleep(…)` in it, or `await asyncio.wait_for(stop.wait(), …)`, outside of `except` (there
    it is the back-off of something else);
  - it has no end of its own: no `break` and no `return`, but for those after a cancellation or behind a stop flag;
  - the coroutine is started as a task, or awaited by one that is: by `create_task`, `ensure_future`, `gather`,
    `asyncio.run` …, in its own file or in one that imports it.

So neither a retry, a wait for a condition, a web-socket handler nor a bare `create_task` counts.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from periodic.elsewhere.found import Hit
from periodic.elsewhere.source import Source, last_name

_ENDLESS = re.compile(rb"while[ \t(]+(?:True|1)\b")
KIND = "asyncio loop"
_STARTERS = frozenset({"create_task", "ensure_future", "run_until_complete", "run_coroutine_threadsafe", "start_soon",
                       "add_task"})  # fmt: skip
_STARTERS_OF_ASYNCIO = frozenset({"asyncio.gather", "asyncio.run"})
_STOP_FLAG = re.compile(r"stop|shut|exit|quit|running|cancel", re.IGNORECASE)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclass(frozen=True)
class Loop:
    """A function that loops for ever, if it is started. is_importable: it is no method, and not within another."""

    function: str
    hit: Hit
    is_importable: bool


def may_have(data: bytes) -> bool:
    """Whether a file's bytes have what such a loop cannot do without."""
    return b"asyncio" in data and _ENDLESS.search(data) is not None


def may_start(data: bytes) -> bool:
    """Whether a file's bytes have what starts a task."""
    return b"asyncio" in data or any(name.encode() in data for name in _STARTERS)


def find(source: Source) -> Iterator[Loop]:
    """The loops of a file, started or not."""
    importable = set(source.tree.body)
    for node in source.nodes:
        if not isinstance(node, ast.AsyncFunctionDef):
            continue
        inside = list(_own(node.body))
        if any(isinstance(one, ast.Yield | ast.YieldFrom) for one in inside):
            continue
        for loop in inside:
            if isinstance(loop, ast.While) and isinstance(loop.test, ast.Constant) and loop.test.value:
                if _pauses(source, loop) and not _ends(loop.body):
                    hit = Hit(loop.lineno, KIND, node.name, f"{node.name} {_calls(loop)}")
                    yield Loop(node.name, hit, is_importable=node in importable)
                break


def started(source: Source) -> set[str]:
    """What a file starts as tasks: `cleanup_loop`, `app.jobs.cleanup_loop`, `self.run`, as far as imports tell; and
    what those of its own coroutines await."""
    assigned: dict[str, set[str]] = {}
    awaited: dict[str, set[str]] = {}
    found: set[str] = set()
    for node in source.nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):  # coroutine = poll(); create_task(coroutine)
                assigned.setdefault(name, set()).update(_names(source, value))
            case ast.AsyncFunctionDef(name=name, body=body):
                calls = [one.value for one in _own(body) if isinstance(one, ast.Await)]
                awaited.setdefault(name, set()).update(
                    source.origin(call.func) for call in calls if isinstance(call, ast.Call)
                )
            case ast.Call(args=arguments) if _starts(source, node):
                for argument in arguments:
                    found |= _names(source, argument)
            case _:
                pass
    for name in list(found):
        found |= assigned.get(name, set())
    waiting = list(found)
    while waiting:
        more = awaited.get(waiting.pop().rpartition(".")[2], set()) - found
        found |= more
        waiting += more
    return found


def is_started_here(loop: Loop, names: Iterable[str]) -> bool:
    """Whether the loop's own file starts it."""
    return any(name.rpartition(".")[2] == loop.function for name in names)


def is_started_from(loop: Loop, names: Iterable[str], source: Source) -> bool:
    """Whether another file starts it: one that imports it, or its module, by a name of the loop's path."""
    path = PurePath(loop.hit.path)
    homes = {path.stem, *path.parts[:-1]}
    for name in names:
        module, _, function = name.rpartition(".")
        if function == loop.function and (
            (module == "" and function in source.imported.values()) or module.rpartition(".")[2] in homes
        ):
            return True
    return False


def _names(source: Source, value: ast.expr) -> set[str]:
    return {source.origin(one) for one in ast.walk(value) if isinstance(one, ast.Name | ast.Attribute)}


def _starts(source: Source, call: ast.Call) -> bool:
    return last_name(call.func) in _STARTERS or source.origin(call.func) in _STARTERS_OF_ASYNCIO


def _own(body: Iterable[ast.AST], stop: tuple[type[ast.AST], ...] = ()) -> Iterator[ast.AST]:
    """Every node below that belongs to the same function, and is not within one of the types in `stop`."""
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        if not isinstance(node, _SCOPES):
            yield node
            waiting += [child for child in ast.iter_child_nodes(node) if not isinstance(child, stop)]


def _pauses(source: Source, loop: ast.While) -> bool:
    for node in _own(loop.body, (ast.ExceptHandler,)):
        if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
            called = source.origin(node.value.func)
            if called == "asyncio.sleep":
                return True
            if called == "asyncio.wait_for" and node.value.args:
                waited = node.value.args[0]
                if isinstance(waited, ast.Call) and last_name(waited.func) == "wait":
                    return True
    return False


def _ends(body: Iterable[ast.AST], *, is_inner_loop: bool = False) -> bool:
    """Whether these statements can leave the loop other than by cancellation or a stop flag."""
    for node in body:
        match node:
            case ast.Return():
                return True
            case ast.Break() if not is_inner_loop:
                return True
            case ast.ExceptHandler(type=ast.expr() as kind) if "Cancelled" in ast.unparse(kind):
                continue
            case ast.If(test=test, orelse=orelse) if _STOP_FLAG.search(ast.unparse(test)):
                if _ends(orelse, is_inner_loop=is_inner_loop):
                    return True
            case ast.For() | ast.AsyncFor() | ast.While():
                if _ends(node.body, is_inner_loop=True) or _ends(node.orelse, is_inner_loop=is_inner_loop):
                    return True
            case ast.stmt() | ast.ExceptHandler() | ast.match_case() if not isinstance(node, _SCOPES):
                if _ends(ast.iter_child_nodes(node), is_inner_loop=is_inner_loop):
                    return True
            case _:
                pass
    return False


def _calls(loop: ast.While) -> str:
    return " ".join(last_name(node.func) for node in _own(loop.body) if isinstance(node, ast.Call))
