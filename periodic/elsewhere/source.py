"""A Python file as its syntax tree, with what its imported names stand for."""

import ast
import warnings
from functools import cached_property


class Source:
    """A parsed file.

    Args:
        data: its bytes, in any encoding that it declares.

    Raises:
        ValueError (SyntaxError is one of them), RecursionError, MemoryError: it cannot be parsed.
    """

    def __init__(self, data: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # why: "invalid escape sequence" in a stranger's file is not our news.
            try:
                self.tree = ast.parse(data)
            except SyntaxError as error:
                raise ValueError(f"line {error.lineno}: {error.msg}") from None
        self.nodes = list(ast.walk(self.tree))

    @cached_property
    def imported(self) -> dict[str, str]:
        """Name here → what it stands for: `BS` → `apscheduler.schedulers.background.BackgroundScheduler`."""
        names: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for one in node.names:
                    names[one.asname or one.name.partition(".")[0]] = (
                        one.name if one.asname else one.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                for one in node.names:
                    names[one.asname or one.name] = f"{node.module}.{one.name}" if node.module else one.name
        return names

    @cached_property
    def modules(self) -> set[str]:
        """The top-level packages that are imported anywhere in it."""
        found: set[str] = set()
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found |= {one.name.partition(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
        return found

    @cached_property
    def values(self) -> dict[str, ast.expr]:
        """Name → the value that the module gives it."""
        return {
            node.targets[0].id: node.value
            for node in self.tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }

    @cached_property
    def decorated(self) -> dict[ast.expr, str]:
        """Decorator → the name of its function."""
        return {
            decorator: node.name
            for node in self.nodes
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for decorator in node.decorator_list
        }

    def origin(self, node: ast.expr) -> str:
        """What a name or attribute stands for: `aio.sleep` → `asyncio.sleep`; "" for any other expression."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join([self.imported.get(node.id, node.id), *reversed(parts)])


def last_name(node: ast.expr) -> str:
    """`run` of `self.jobs.run`; "" for what is neither name nor attribute."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def text_of(node: ast.expr | None) -> str:
    """A text literal's text; else the expression as it would be written; "" for none."""
    if node is None:
        return ""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)
