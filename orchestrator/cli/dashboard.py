"""`metafleet dashboard`: show runs in a browser."""

from pathlib import Path
from types import ModuleType

import click

from metafleet.errors import ConfigError
from metafleet.orchestrator.cli.arguments import PathType
from metafleet.orchestrator.cli.context import load_settings, open_database
from metafleet.orchestrator.reporting.output import notify


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8050,
    show_default=True,
    help="Port to listen at; 0 for a free one.",
)
@click.option(
    "--cert", type=click.Path(path_type=Path), help="PEM file of a certificate, to serve HTTPS."
)
@click.option(
    "--cert-key",
    type=click.Path(path_type=Path),
    help="PEM file of the certificate's private key, if it is a separate file.",
)
@click.option(
    "--try",
    "with_trial",
    is_flag=True,
    help="Add a page that adapts a model to files of the browser and predicts others.",
)
@click.option(
    "--try-model",
    "models",
    multiple=True,
    type=PathType(path_type=Path),
    metavar="MODEL",
    help="With --try: also offer this exported or adapted model. Repeat for several.",
)
def dashboard(
    host: str,
    port: int,
    *,
    cert: Path | None,
    cert_key: Path | None,
    with_trial: bool,
    models: tuple[Path, ...],
) -> None:
    """Show runs as web pages until Ctrl-C. Without a password, pages only read.

    METAFLEET_DASHBOARD_PASSWORD sets a password: pages then need a sign-in, and can also cancel,
    resume, tag and annotate runs. If other machines can reach the address, a password is required.

    \b
    metafleet dashboard
    metafleet dashboard --try
    METAFLEET_DASHBOARD_PASSWORD=... metafleet dashboard --host 0.0.0.0
    """
    served = import_dashboard()
    if models and not with_trial:
        raise ConfigError(f"--try-model {models[0]} goes with --try; add it")
    for model in models:
        if not (model.expanduser() / "model.json").exists():
            raise ConfigError(f"there is no model at {model}; `metafleet export` makes one")
    settings = load_settings()
    paths = tuple(str(model.expanduser().absolute()) for model in models)
    trial = served.Trial(settings, paths) if with_trial else None
    with open_database(settings) as database:
        address = served.Address(host, port, cert, cert_key)
        served.serve_dashboard(database, settings, address, notify, trial=trial)


def import_dashboard() -> ModuleType:
    """Return the module that serves the dashboard.

    Raises:
        ConfigError: one of its packages is not installed.
    """
    try:
        from metafleet.orchestrator.dashboard import app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the dashboard needs the package {error.name!r}; "
            "run pip install 'metafleet[dashboard]'"
        ) from error
    return app
