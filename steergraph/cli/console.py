"""Where commands print: one terminal's width, colours and safety for all of them.

Text from elsewhere (files, models, repositories) is data: it moves no cursor and is never read as markup.
"""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from steergraph.base.text import harmless, printable


def console(*, errors: bool = False, least: int = 0) -> Console:
    """Standard output, or standard error. A pipe has no width of its own and gets `least`, so that tables can be
    searched."""
    made = Console(stderr=errors, highlight=False)
    if not made.is_terminal:
        made.width = max(made.width, least)
    return made


def print_line(text: str, style: str = "", *, errors: bool = False) -> None:
    """A line, however long, on standard output or standard error."""
    console(errors=errors).print(Text(harmless(text), style=style), soft_wrap=True)


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None, least: int = 0
) -> None:
    """A table of plain text on standard output."""
    table = Table(*headings, title=title)
    for row in rows:
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in row))
    console(least=least).print(table)
