"""`legacy rewrite`: old imports and task names in a tree of Python files become today's."""

from pathlib import Path
from typing import Annotated, Any

import typer

from periodic.elsewhere.found import Found
from periodic.elsewhere.tree import files
from workers import callboard, legacy_rewrite
from workers.cli.show import Json, bar, print_json, print_text

app = typer.Typer(help="Bring code that uses old names up to date.", no_args_is_help=True)
EXIT_LEFT = 1


@app.callback()
def _group() -> None:
    """Bring code that uses old names up to date."""


@app.command()
def rewrite(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Python files, and folders of them.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    as_json: Json = False,
) -> None:
    """Rewrite old imports and task names in Python files.

    Exit code 1: something is left that only a person can mend; with --dry-run also if anything would change.

    Each place is printed as file:line. Hidden folders, virtual environments and node_modules are passed over; folders
    that are linked are not followed. Commit first: the files are changed in place.
    """
    looked = Found()
    changes: list[dict[str, Any]] = []
    left: list[dict[str, Any]] = []
    with bar("looking", None, quiet=as_json) as advance:
        for path in files(paths, looked):
            advance(1)
            if path.suffix == ".py" and path.stat().st_size <= legacy_rewrite.MAX_BYTES:
                _rewrite(path, changes, left, dry_run=dry_run)
    left += [{"file": None, "line": None, "why": said} for said in (*looked.warnings, *looked.problems)]
    if as_json:
        print_json({"changes": changes, "left": left, "dry_run": dry_run})
    else:
        _tell(changes, left, dry_run=dry_run)
    if left or (dry_run and changes):
        raise typer.Exit(EXIT_LEFT)


def _rewrite(path: Path, changes: list[dict[str, Any]], left: list[dict[str, Any]], *, dry_run: bool) -> None:
    try:
        found = legacy_rewrite.rewrite(path.read_bytes(), callboard.registry)
        if found.changes and not dry_run:
            legacy_rewrite.replace(path, found.content)
    except OSError as error:
        left.append({"file": str(path), "line": 1, "why": f"it cannot be rewritten ({error.strerror})"})
        return
    changes += [{"file": str(path), "line": one.line, "old": one.old, "new": one.new} for one in found.changes]
    left += [{"file": str(path), "line": line, "why": why} for line, why in found.left]


def _tell(changes: list[dict[str, Any]], left: list[dict[str, Any]], *, dry_run: bool) -> None:
    for one in changes:
        print_text(f"{one['file']}:{one['line']}: {one['old']} → {one['new']}")
    for one in left:
        place = "" if one["file"] is None else f"{one['file']}:{one['line']}: "
        print_text(f"{place}{one['why']}", err=True)
    did = "would change" if dry_run else "changed"
    count = len({one["file"] for one in changes})
    typer.echo(f"{len(changes)} places in {count} files {did}, {len(left)} left to you")
