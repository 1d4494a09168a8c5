"""How tables look: compact, and never cut in a pipe."""

from rich import box
from rich.console import Console
from rich.table import Table

_PIPE_WIDTH = 200


def make_table(*headings: str, right: tuple[str, ...] = ()) -> Table:
    """Make a table; the headings in ``right`` head columns of figures."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", no_wrap=True)
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
    if not console.is_terminal or console.width < console.measure(table).maximum:
        console = _Console(highlight=False, width=_PIPE_WIDTH)
    console.print(table)
