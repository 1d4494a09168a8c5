"""`metafleet exporter`: serve metrics of fleet and runs for Prometheus."""

import click

from metafleet.errors import ConfigError
from metafleet.orchestrator.cli.context import load_settings
from metafleet.orchestrator.reporting.output import notify


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9108,
    show_default=True,
    help="Port to listen at; 0 for a free one.",
)
def exporter(host: str, port: int) -> None:
    """Serve metrics of the fleet and the runs until Ctrl-C, for Prometheus and autoscalers.

    One exporter is enough for all workers and orchestrators: it reads Redis and the database. If
    one of the two does not answer, the metric `metafleet_up` says so.

    \b
    metafleet exporter --port 9108
    curl localhost:9108/metrics
    """
    # imported here, where the error can say which extra is missing
    try:
        from metafleet.orchestrator.monitoring.exporter import serve_metrics  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the exporter needs the package {error.name!r}; "
            "run pip install 'metafleet[monitoring]'"
        ) from error
    serve_metrics(load_settings(), host=host, port=port, tell=notify)
