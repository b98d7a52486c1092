"""Celery beat: `beat_schedule` in all its spellings, `add_periodic_task`, and `@periodic_task` of old."""

import ast
import re
from collections.abc import Iterator

from periodic.elsewhere.found import Hit
from periodic.elsewhere.source import Source, last_name, text_of

WORDS = (b"beat_schedule", b"BEAT_SCHEDULE", b"periodic_task")
KIND = "Celery beat"
_SETTING = re.compile(r"beat_schedule|(?:[A-Z0-9_]+_)?BEAT_SCHEDULE|CELERYBEAT_SCHEDULE")


def find(source: Source) -> Iterator[Hit]:
    """An entry of a schedule each; an assignment whose value is made elsewhere counts as one."""
    for node in source.nodes:
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield from _assigned(source, target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.AugAssign(target=target, value=value):
                yield from _assigned(source, target, value)
            case ast.Call():
                yield from _called(source, node)
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and _is_setting(key.value):
                        yield from _entries(source, value, key)
            case _:
                pass


def _is_setting(name: object) -> bool:
    return isinstance(name, str) and _SETTING.fullmatch(name) is not None


def _assigned(source: Source, target: ast.expr, value: ast.expr) -> Iterator[Hit]:
    match target:
        case ast.Attribute(attr=name) if _is_setting(name):  # app.conf.beat_schedule = …
            yield from _entries(source, value, target, is_sure=True)
        case ast.Name(id=name) if _is_setting(name):  # CELERY_BEAT_SCHEDULE = …; a local copy is none
            yield from _entries(source, value, target, is_sure=name.isupper())
        case ast.Subscript(value=ast.expr() as whole, slice=key) if _is_setting(last_name(whole)):
            yield _hit(target, text_of(key), value)  # app.conf.beat_schedule["nightly"] = …
        case ast.Subscript(slice=ast.Constant(value=name)) if _is_setting(name):  # app.conf["beat_schedule"] = …
            yield from _entries(source, value, target, is_sure=True)
        case _:
            pass


def _called(source: Source, call: ast.Call) -> Iterator[Hit]:
    name = last_name(call.func)
    if name == "add_periodic_task":
        named = {one.arg: one.value for one in call.keywords}
        task = call.args[1] if len(call.args) > 1 else named.get("sig")
        yield _hit(call, text_of(named.get("name") or task), call)
    elif (origin := source.origin(call.func)).startswith("celery.") and origin.endswith(".periodic_task"):
        yield _hit(call, source.decorated.get(call, "periodic_task"), call)
    elif isinstance(call.func, ast.Attribute) and _is_setting(last_name(call.func.value)):
        if name == "update":  # app.conf.beat_schedule.update({…})
            for value in [*call.args, *(one.value for one in call.keywords)]:
                yield from _entries(source, value, call, is_sure=True)
        elif name == "setdefault" and call.args:
            yield _hit(call, text_of(call.args[0]), call)
    for keyword in call.keywords:  # app.conf.update(beat_schedule={…}), Celery(…, beat_schedule={…})
        if _is_setting(keyword.arg):
            yield from _entries(source, keyword.value, keyword.value)


def _entries(source: Source, value: ast.expr, place: ast.expr, *, is_sure: bool = False) -> Iterator[Hit]:
    """What a schedule holds. is_sure: that `place` is Celery's setting, so that a value made elsewhere counts too."""
    if isinstance(value, ast.Name) and isinstance(source.values.get(value.id), ast.Dict):
        value = source.values[value.id]
    match value:
        case ast.Dict(keys=keys, values=values):
            for key, entry in zip(keys, values, strict=True):
                if _is_job(entry, is_known=is_sure):
                    yield _hit(key or entry, text_of(key or entry), entry)
        case ast.Call(func=ast.Name(id="dict"), keywords=keywords):
            for keyword in keywords:
                if _is_job(keyword.value, is_known=is_sure):
                    yield _hit(keyword.value, keyword.arg or text_of(keyword.value), keyword.value)
        case ast.BinOp(left=left, right=right):
            for side in (left, right):
                yield from _entries(source, side, side, is_sure=is_sure)
        case ast.Constant():
            pass
        case _ if is_sure:
            yield _hit(place, text_of(value), value)
        case _:
            pass


def _is_job(entry: ast.expr, *, is_known: bool) -> bool:
    match entry:
        case ast.Dict(keys=keys):
            return any(isinstance(key, ast.Constant) and key.value == "task" for key in keys)
        case ast.Call(func=ast.Name(id="dict"), keywords=keywords):
            return any(keyword.arg == "task" for keyword in keywords)
        case ast.Constant():
            return False
        case _:
            return is_known


def _hit(place: ast.expr, name: str, about: ast.expr) -> Hit:
    return Hit(place.lineno, KIND, name, text_of(about))
