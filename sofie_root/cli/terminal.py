"""What the command prints: escaped text, tables, and progress on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager


def printable(text: str) -> str:
    """The text with control characters escaped: names come from the model's file."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def write(text: str) -> None:
    """Prints a text in which names of the model may stand."""
    print(printable(text))


def section(title: str, lines: Iterable[str]) -> None:
    """Prints a title and the lines under it."""
    shown = [f"  {line}" for line in lines]
    write("\n".join(["", f"{title}:", *(shown or ["  none"])]))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table: drawn for a terminal, else plain columns that a script can read."""
    cells = [tuple(printable(cell) for cell in row) for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        headed = any(columns)
        table = Table(title=Text(printable(title)), title_justify="left", show_header=headed)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in cells:
            table.add_row(*map(Text, row))  # Text: square brackets are no markup here
        Console().print(table)
        return
    lines = [tuple(columns), *cells] if any(columns) else cells
    widths = [max(len(line[k]) for line in lines) for k in range(len(columns))]
    write(title)
    for line in lines:
        padded = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        write(f"  {padded}".rstrip())


@contextmanager
def status(text: str) -> Iterator[None]:
    """Shows on a terminal that something takes a while."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(printable(text))):
        yield


@contextmanager
def progress_bar(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; gives the function that moves it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(printable(text).replace("[", r"\["), total=total)
        yield lambda done: progress.update(task, completed=done)


def shape_text(dims: Iterable[object]) -> str:
    """A shape as people read it: ``[N, 16]``."""
    return f"[{', '.join(map(str, dims))}]"


def size_text(size: float) -> str:
    """A size as people read it: 4.2 kB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
