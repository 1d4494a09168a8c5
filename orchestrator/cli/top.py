"""`metafleet top`: watch runs and workers in the terminal."""

import time
from collections.abc import Iterator

import click
from rich.console import Console
from rich.live import Live

from metafleet.orchestrator.cli.context import load_settings
from metafleet.orchestrator.cli.top_view import lines, screen, summary
from metafleet.orchestrator.monitoring.monitor import Monitor, Snapshot


@click.command()
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0.2, max=3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many looks.")
def top(every_s: float, count: int | None) -> None:
    """Watch open runs, their slowest jobs, and the workers, until Ctrl-C.

    In a pipe, plain lines are printed instead of a screen. If Redis or the database does not
    answer, one line says so, and the rest is still shown.

    \b
    metafleet top
    metafleet top --count 1 | grep run
    """
    monitor = Monitor(load_settings(), fresh_s=0)
    try:
        _watch(_looks(monitor, every_s, count))
    except KeyboardInterrupt:
        return  # the usual way to leave
    finally:
        monitor.close()


def _looks(monitor: Monitor, every_s: float, count: int | None) -> Iterator[Snapshot]:
    n = 0
    while True:
        began_s = time.monotonic()
        yield monitor.look()
        n += 1
        if n == count:
            return
        time.sleep(max(0.0, began_s + every_s - time.monotonic()))


def _watch(looks: Iterator[Snapshot]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        for found in looks:
            _print_lines(found)
        return
    with Live(console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        for found in looks:
            width, height = console.size
            live.update(screen(found, at=_now(), width=width, height=height), refresh=True)


def _print_lines(found: Snapshot) -> None:
    at = _now()
    for line in (*summary(found), *lines(found)):
        click.echo(f"{at} {line}")


def _now() -> str:
    return time.strftime("%H:%M:%S")
