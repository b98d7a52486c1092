"""asyncio loops that run for ever: a schedule of their own, which dies with its process and leaves no row.

A loop counts if all of this is true:
  - it stands in an `async def` that is no generator, and is `while True:`, `for … in itertools.count():`, or ends by a
    flag that others set and that says so (`while not self.stopped`, `while not stop.is_set()`, `while self.running`);
    a flag that the loop sets itself, or that it does nothing but wait for, is a condition;
  - it pauses: `await asyncio.sleep(…)` in it, or a wait with a time-out (`wait_for(stop.wait(), 60)`, `wait(…,
    timeout=60)`), outside of `except` (there it is the back-off of something else);
  - it has no end of its own: no `break` and no `return`, but for those after a cancellation or behind a stop flag;
  - the coroutine is started as a task, or awaited by one that is: by `create_task`, `ensure_future`, `gather`,
    `asyncio.run` …, in its own file or in one that imports it or its class.

A function that whatever happens has itself called again by `loop.call_later` is one too.

So neither a retry, a wait for a condition, a web-socket handler nor a bare `create_task` counts.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from periodic.elsewhere.found import Hit
from periodic.elsewhere.source import Source, last_name

_COROUTINES = re.compile(rb"\basync\s+def\b")
_LOOPS = re.compile(rb"\bwhile\b|\bcount\(")
_CALLERS = frozenset({"call_later", "call_at"})
KIND = "asyncio loop"
_STARTERS = frozenset({"create_task", "ensure_future", "run_until_complete", "run_coroutine_threadsafe", "start_soon",
                       "add_task"})  # fmt: skip
_STARTERS_OF_ASYNCIO = frozenset({"asyncio.gather", "asyncio.run"})
_STOP_FLAG = re.compile(r"stop|shut|exit|quit|running|cancel", re.IGNORECASE)
_ENDS_IF_SET = re.compile(r"stop|shut|exit|quit|cancel|terminat|clos(?:ed|ing)", re.IGNORECASE)
_GOES_ON_IF_SET = re.compile(
    r"(?:self\.)?_?(?:is_|keep_)?(?:running|run|alive|active)(?:\.is_set\(\)|\(\))?", re.IGNORECASE
)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclass(frozen=True)
class Loop:
    """A function that loops for ever, if it is started.

    Args:
        owner: its class; "" if it is none's.
        is_importable: whether it is not within another function.
        is_started: whether it is one as it stands, whoever starts it.
    """

    function: str
    hit: Hit
    owner: str = ""
    is_importable: bool = False
    is_started: bool = False


def may_have(data: bytes) -> bool:
    """Whether a file's bytes have what such a loop cannot do without."""
    if any(one.encode() in data for one in _CALLERS):
        return True
    return b"asyncio" in data and all(word.search(data) is not None for word in (_COROUTINES, _LOOPS))


def may_start(data: bytes) -> bool:
    """Whether a file's bytes have what starts a task."""
    return b"asyncio" in data or any(name.encode() in data for name in _STARTERS)


def find(source: Source) -> Iterator[Loop]:
    """The loops of a file, started or not."""
    owners = dict.fromkeys(source.tree.body, "") | {
        node: owner.name for owner in source.tree.body if isinstance(owner, ast.ClassDef) for node in owner.body
    }
    calls_later = any(isinstance(one, ast.Call) and last_name(one.func) in _CALLERS for one in source.nodes)
    for node in source.nodes:
        if not isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
            continue
        if calls_later and (again := _call_again(node)):
            yield Loop(node.name, Hit(again.lineno, KIND, node.name, f"{node.name} {_calls(node)}"), is_started=True)
        if isinstance(node, ast.FunctionDef):
            continue
        inside = list(_own(node.body))
        if any(isinstance(one, ast.Yield | ast.YieldFrom) for one in inside):
            continue
        for loop in inside:
            if isinstance(loop, ast.While | ast.For) and _is_schedule(source, loop):
                hit = Hit(loop.lineno, KIND, node.name, f"{node.name} {_calls(loop)}")
                yield Loop(node.name, hit, owners.get(node, ""), is_importable=node in owners)
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
    return loop.is_started or any(name.rpartition(".")[2] == loop.function for name in names)


def is_started_from(loop: Loop, names: Iterable[str], source: Source) -> bool:
    """Whether another file starts it: one that imports it, its class or its module, by a name of the loop's path."""
    path = PurePath(loop.hit.path)
    homes = {path.stem, *path.parts[:-1], ""}
    imported = {name.rpartition(".")[::2] for name in source.imported.values()}
    for name in names:
        module, _, function = name.rpartition(".")
        if function != loop.function:
            continue
        if loop.owner:
            if any(last == loop.owner and home.rpartition(".")[2] in homes for home, last in imported) or (
                any(isinstance(one, ast.Attribute) and one.attr == loop.owner for one in source.nodes)
                and any(last in homes for _, last in imported)
            ):
                return True
        elif (module == "" and function in source.imported.values()) or (module and module.rpartition(".")[2] in homes):
            return True
    return False


def _names(source: Source, value: ast.expr) -> set[str]:
    """The names in an expression; of a method of what is made there (`Poller().run`) the last part."""
    found = (one for one in ast.walk(value) if isinstance(one, ast.Name | ast.Attribute))
    return {source.origin(one) or last_name(one) for one in found}


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


def _is_schedule(source: Source, loop: ast.While | ast.For) -> bool:
    return _is_endless(source, loop) and _pauses(source, loop) and not _ends(loop.body)


def _is_endless(source: Source, loop: ast.While | ast.For) -> bool:
    if isinstance(loop, ast.For):
        return isinstance(loop.iter, ast.Call) and source.origin(loop.iter.func) == "itertools.count"
    if isinstance(loop.test, ast.Constant):
        return bool(loop.test.value)
    match loop.test:
        case ast.BoolOp(op=ast.And(), values=tests):
            pass
        case ast.UnaryOp(op=ast.Not(), operand=ast.BoolOp(op=ast.Or(), values=flags)):
            tests = [ast.UnaryOp(ast.Not(), flag) for flag in flags]
        case test:
            tests = [test]
    return all(_is_flag(loop, test) for test in tests) and _works(source, loop)


def _is_flag(loop: ast.While, test: ast.expr) -> bool:
    """Whether a loop's test is a flag by which others end it."""
    is_not = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
    asked = test.operand if isinstance(test, ast.UnaryOp) else test
    flag = asked.func if isinstance(asked, ast.Call) and not asked.args and not asked.keywords else asked
    if not isinstance(flag, ast.Name | ast.Attribute):
        return False
    text = ast.unparse(asked)
    sets = {
        ast.unparse(one)
        for one in _own(loop.body)
        if isinstance(one, ast.Name | ast.Attribute) and isinstance(one.ctx, ast.Store)
    }
    if sets & {ast.unparse(flag), text}:
        return False
    return bool(_ENDS_IF_SET.search(text) if is_not else _GOES_ON_IF_SET.fullmatch(text))


def _works(source: Source, loop: ast.While) -> bool:
    """Whether a loop does more than pause."""
    inside = list(_own(loop.body))
    idle = [node for node in inside if _is_pause(source, node)]
    idle += [one.context_expr for node in inside if isinstance(node, ast.With | ast.AsyncWith) for one in node.items]
    idle_nodes = {one for node in idle for one in ast.walk(node)}
    works = (ast.Call, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Delete)
    return any(isinstance(node, works) and node not in idle_nodes for node in inside)


def _pauses(source: Source, loop: ast.While | ast.For) -> bool:
    return any(_is_pause(source, node) for node in _own(loop.body, (ast.ExceptHandler,)))


def _is_pause(source: Source, node: ast.AST) -> bool:
    if isinstance(node, ast.AsyncWith):  # async with asyncio.timeout(60): await stop.wait()
        return any(
            isinstance(one.context_expr, ast.Call) and source.origin(one.context_expr.func) == "asyncio.timeout"
            for one in node.items
        ) and any(isinstance(one, ast.Await) and _is_wait(one.value) for one in _own(node.body))
    if not isinstance(node, ast.Await) or not isinstance(node.value, ast.Call):
        return False
    match source.origin(node.value.func):
        case "asyncio.sleep":  # why: sleep(0) only lets others run.
            return not any(isinstance(one, ast.Constant) and one.value == 0 for one in node.value.args[:1])
        case "asyncio.wait_for":
            return bool(node.value.args) and _is_wait(node.value.args[0])
        case "asyncio.wait":
            return any(one.arg == "timeout" for one in node.value.keywords)
        case _:
            return False


def _is_wait(call: ast.expr) -> bool:
    return isinstance(call, ast.Call) and last_name(call.func) == "wait"


def _call_again(function: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.Call | None:
    """Where a function has itself called again, whatever happens but a stop; None if it does not."""
    for node in _always(function.body):
        for call in _own([node], (ast.stmt,)):
            if isinstance(call, ast.Call) and last_name(call.func) in _CALLERS and len(call.args) > 1:
                again = call.args[1]
                if isinstance(again, ast.Lambda):
                    again = again.body
                if isinstance(again, ast.Call):
                    again = again.args[0] if last_name(again.func) == "partial" and again.args else again.func
                is_own = isinstance(again, ast.Name) or ast.unparse(again).startswith(("self.", "cls."))
                if is_own and last_name(again) == function.name:
                    return call
    return None


def _always(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run whatever happens, but for a stop: those after a `return` under a condition do not."""
    for node in body:
        match node:
            case ast.Try():
                yield from _always([*node.body, *node.finalbody])
            case ast.With() | ast.AsyncWith():
                yield from _always(node.body)
            case ast.If() if _STOP_FLAG.search(ast.unparse(node.test)):
                yield from _always([] if _ends(node.body) else node.body)
            case ast.If() | ast.For() | ast.While() | ast.Match():
                if any(isinstance(one, ast.Return) for one in _own([node])):
                    return
            case _:
                yield node


def _ends(body: Iterable[ast.AST], *, is_inner_loop: bool = False) -> bool:
    """Whether these statements can leave the loop other than by cancellation or a stop flag."""
    return any(_can_leave(node, is_inner_loop=is_inner_loop) for node in body)


def _can_leave(node: ast.AST, *, is_inner_loop: bool) -> bool:
    inside: Iterable[ast.AST] = ()
    match node:
        case ast.Return():
            return True
        case ast.Break():
            return not is_inner_loop
        case ast.ExceptHandler(type=ast.expr() as kind) if "Cancelled" in ast.unparse(kind):
            pass
        case ast.If(test=test, orelse=orelse) if _STOP_FLAG.search(ast.unparse(test)):
            inside = orelse
        case ast.Try(body=tried) if any(_waits_to_stop(one) for one in _own(tried)):
            inside = [*node.handlers, *node.finalbody]
        case ast.For() | ast.AsyncFor() | ast.While():
            return _ends(node.body, is_inner_loop=True) or _ends(node.orelse, is_inner_loop=is_inner_loop)
        case ast.stmt() | ast.ExceptHandler() | ast.match_case() if not isinstance(node, _SCOPES):
            inside = ast.iter_child_nodes(node)
        case _:
            pass
    return _ends(inside, is_inner_loop=is_inner_loop)


def _waits_to_stop(node: ast.AST) -> bool:
    """Whether it is `stop.wait()`, after which a loop that leaves has been told to."""
    return isinstance(node, ast.Call) and _is_wait(node) and _STOP_FLAG.search(ast.unparse(node.func)) is not None


def _calls(loop: ast.While | ast.For | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return " ".join(last_name(node.func) for node in _own(loop.body) if isinstance(node, ast.Call))
