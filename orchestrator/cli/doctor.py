"""`metafleet doctor`: find what is wrong and how to fix it."""

from dataclasses import asdict

import click

from metafleet.contracts.settings import Settings
from metafleet.orchestrator.cli.context import echo_json
from metafleet.orchestrator.doctor.finding import Finding, Severity
from metafleet.orchestrator.doctor.machine import check_machine
from metafleet.orchestrator.doctor.services import check_services

_COLOURS = {Severity.OK: "green", Severity.WARN: "yellow", Severity.FAIL: "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of findings.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check this machine, Redis, the database, the workers and the data.

    The exit status is 1 if a problem prevents experiments from running.

    \b
    metafleet doctor
    """
    settings = Settings.load()
    findings = [*check_machine(settings), *check_services(settings)]
    if as_json:
        echo_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _show(finding)
    if any(finding.severity is Severity.FAIL for finding in findings):
        ctx.exit(1)


def _show(finding: Finding) -> None:
    mark = click.style(f"{finding.severity:<4}", fg=_COLOURS[finding.severity], bold=True)
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    click.echo(f"{mark} {finding.topic}: {finding.text}{remedy}")
