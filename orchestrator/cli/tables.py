"""How tables look: compact, and never cut in a pipe."""

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table

_PIPE_WIDTH = 200
_LEAST_WIDTH = 16
"""Of a column that folds: the longest word of what is in it."""


def make_table(*headings: str, right: tuple[str, ...] = (), fold: str = "") -> Table:
    """Make a table.

    Args:
        headings: of the columns.
        right: those of figures.
        fold: that of the column which gives way on a narrow terminal.
    """
    table = Table(box=box.SIMPLE_HEAD)
    for heading in headings:
        justify: JustifyMethod = "right" if heading in right else "left"
        if heading == fold:
            table.add_column(heading, justify=justify, overflow="fold", min_width=_LEAST_WIDTH)
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
    """Leaves it to the command what to do when nobody reads its output."""

    def on_broken_pipe(self) -> None:
        """Raise what happened, where rich would end the process."""
        raise BrokenPipeError


def show_table(table: Table) -> None:
    """Print a table on standard output; a narrow terminal wraps its lines, nothing is cut."""
    console = _Console(highlight=False)
    wide = _Console(highlight=False, width=_PIPE_WIDTH)
    # what a narrow console measures is never wider than itself
    is_cut = console.width < wide.measure(table).minimum
    (wide if is_cut or not console.is_terminal else console).print(table)
