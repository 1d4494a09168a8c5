"""Compact tables, which are never cut off in a pipe."""

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 200
_WIDEST = 10_000


def make_table(
    *headings: str, right: tuple[str, ...] = (), fold: str = "", least_width: int = 16
) -> Table:
    """Return a table without rows.

    Args:
        headings: the headings of all columns, in order.
        right: the headings of the columns whose cells are aligned at the right.
        fold: the heading of the column whose text is wrapped on a narrow terminal.
        least_width: minimum width of the column ``fold``, in characters.
    """
    table = Table(box=box.SIMPLE_HEAD)
    for heading in headings:
        justify: JustifyMethod = "right" if heading in right else "left"
        if heading == fold:
            table.add_column(heading, justify=justify, overflow="fold", min_width=least_width)
        else:
            table.add_column(heading, justify=justify, no_wrap=True)
    return table


def make_facts() -> Table:
    """Make a table of names and values."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


class _Console(Console):
    """A console that lets the command handle a closed pipe."""

    def on_broken_pipe(self) -> None:
        """Raise the error; rich would end the process."""
        raise BrokenPipeError


def show_table(table: Table) -> None:
    """Print a table on standard output; wrap its lines on a narrow terminal, but cut nothing."""
    console = _Console(highlight=False)
    if console.is_terminal and fits(table):
        console.print(table)
        return
    wide = _Console(highlight=False, width=max(_PIPE_WIDTH, _least_width(table)))
    with wide.capture() as captured:
        wide.print(table)
    for line in captured.get().splitlines():
        wide.out(line.rstrip(), highlight=False)


def show_rows(table: Table) -> None:
    """Print a table like ``show_table``, or one block of lines a row if the terminal is narrow."""
    console = _Console(highlight=False)
    if not console.is_terminal or fits(table):
        show_table(table)
        return
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        line = Text()
        for column, cell in zip(table.columns, cells, strict=True):
            item = Text.from_markup(f"[dim]{column.header}[/] {cell}")
            if line and line.cell_len + 2 + item.cell_len > console.width:
                console.print(line, soft_wrap=True)
                line = Text()
            line = line + Text("  " if line else "") + item
        console.print(line, soft_wrap=True)
        console.print()


def fits(table: Table) -> bool:
    """Return whether a table can be shown in full: in the terminal's width, or in a pipe."""
    console = _Console(highlight=False)
    return not console.is_terminal or console.width >= _least_width(table)


def _least_width(table: Table) -> int:
    """Return the width in which a table can be shown without cutting anything."""
    folding = [column for column in table.columns if column.min_width is not None]
    for column in folding:  # longer words are broken
        column.max_width = column.min_width
    # measured on a wide console: a narrow one never measures more than its own width
    least = _Console(width=_WIDEST).measure(table).maximum
    for column in folding:
        column.max_width = None
    return least
