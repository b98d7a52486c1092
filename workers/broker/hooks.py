"""Which middleware listens to which signal.

Dramatiq calls every hook of every middleware for every signal, nearly all of them empty methods: some forty calls a
message. Here the ones that do nothing are left out. The order and the handling of errors are Dramatiq's.
"""

from __future__ import annotations

from collections.abc import Callable

from dramatiq import Middleware

Hook = Callable[..., None]


class Hooks:
    """Remembers the listeners of each hook, for as long as the list of middleware stays the same.

    A hook that is set on an instance counts as one that does something, if it is set before the hook is first used.
    """

    def __init__(self) -> None:
        # One object, replaced whole: worker threads read it while another declares a queue.
        self._known: tuple[list[Middleware], dict[str, list[Hook]]] = ([], {})

    def listeners(self, hook: str, middleware: list[Middleware]) -> list[Hook]:
        """Returns the methods of that name of those of `middleware` that define it, in their order."""
        seen, listeners = self._known
        if seen != middleware:  # compares by identity: middleware does not define equality
            listeners = {}
            self._known = (list(middleware), listeners)
        found = listeners.get(hook)
        if found is None:
            empty = getattr(Middleware, hook, None)
            found = listeners[hook] = [
                getattr(m, hook) for m in middleware if hook in vars(m) or getattr(type(m), hook, None) is not empty
            ]
        return found
