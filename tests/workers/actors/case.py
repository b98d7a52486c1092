"""What an actor's row in the table of all actors says (test_every_actor.py); cases/<domain>.py has the rows.

Must not: know an actor.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.workers.actors.world import World

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Never:
    """In place of a list: there is nothing of this kind, and why."""

    why: str


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong and mends itself: the task is tried again by its own policy.

    Args:
        name: for people.
        begin: makes it go wrong, before the task is sent.
        says: what the error says, as a regular expression.
        end: mends it, before the second attempt.
    """

    name: str
    begin: Callable[[World], object]
    says: str
    end: Callable[[World], object] = lambda world: None


@dataclass(frozen=True)
class Flaw:
    """Something that is wrong and stays wrong: the task fails at its first attempt.

    Args:
        name: for people.
        make: makes it wrong; returns the arguments to send, of those that `prepare` gave.
        says: what the error says, with the mend, as a regular expression.
    """

    name: str
    make: Callable[[World, Arguments], Arguments]
    says: str


@dataclass(frozen=True)
class Bad:
    """Arguments that no task may be sent with.

    Args:
        changes: to the good ones.
        field: which argument is named as the guilty one.
    """

    changes: Mapping[str, Any]
    field: str


@dataclass(frozen=True)
class Case:
    """An actor in the table.

    Args:
        prepare: stores the records that it needs and returns its arguments.
        effect: all that a run changes outside its own row and log lines, in a form that is the same in each world: no
            moments, no random ids.
        proves: asserts that what had to happen did, once; gets what the function returned.
        transient, permanent, bad_input: see Fault, Flaw, Bad.
        legacy: the names of spec/inventory.md that older messages carry.
        uses_database: whether it needs the database, which then also goes away.
    """

    prepare: Callable[[World], Arguments]
    effect: Callable[[World], Any]
    proves: Callable[[World, Any], object]
    transient: Sequence[Fault] | Never
    permanent: Sequence[Flaw] | Never
    bad_input: Sequence[Bad] | Never
    legacy: Sequence[str] = ()
    uses_database: bool = True


@dataclass(frozen=True)
class One:
    """A case and one of the things of a kind that it lists, for a parametrised test."""

    actor: str
    case: Case
    thing: Any = field(default=None)

    def __str__(self) -> str:
        name = getattr(self.thing, "name", None) or getattr(self.thing, "field", None)
        return self.actor if name is None else f"{self.actor} {name}"


def each(cases: Mapping[str, Case], kind: str) -> list[One]:
    """Each thing of a kind (`transient`, `permanent`, `bad_input`, `legacy`), with its case."""
    found = []
    for actor, case in sorted(cases.items()):
        things = getattr(case, kind)
        assert things or kind == "legacy", f"{actor} has no {kind}: list some, or say Never(why)"
        if not isinstance(things, Never):
            found += [One(actor, case, thing) for thing in things]
    return found
