"""How tables look: compact, and never cut in a pipe."""

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table

_PIPE_WIDTH = 200


def make_table(
    *headings: str, right: tuple[str, ...] = (), fold: str = "", least_width: int = 16
) -> Table:
    """Make a table.

    Args:
        headings: of the columns.
        right: those of figures.
        fold: that of the column which gives way on a narrow terminal.
        least_width: what that column keeps.
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
    """Leaves it to the command what to do when nobody reads its output."""

    def on_broken_pipe(self) -> None:
        """Raise what happened, where rich would end the process."""
        raise BrokenPipeError


def show_table(table: Table) -> None:
    """Print a table on standard output; a narrow terminal wraps its lines, nothing is cut."""
    console = _Console(highlight=False)
    wide = _Console(highlight=False, width=_PIPE_WIDTH)
    folding = [column for column in table.columns if column.min_width is not None]
    for column in folding:  # words that are longer than it is are broken
        column.max_width = column.min_width
    least = wide.measure(table).minimum
    for column in folding:
        column.max_width = None
    # what a narrow console measures is never wider than itself
    if console.is_terminal and console.width >= least:
        console.print(table)
        return
    with wide.capture() as captured:
        wide.print(table)
    for line in captured.get().splitlines():
        wide.out(line.rstrip(), highlight=False)
