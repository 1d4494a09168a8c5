"""`--fleet` of the data commands: workers compute the features of pretrained encoders."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from metafleet.contracts.settings import Settings
from metafleet.encoders.encoding import encoding_elsewhere
from metafleet.orchestrator.reporting.output import notify

fleet_option = click.option(
    "--fleet",
    "over_fleet",
    is_flag=True,
    help="Encode the items on workers that have the encoder's weights.",
)


@contextmanager
def encoding(settings: Settings, over_fleet: bool) -> Iterator[None]:
    """Choose where features are computed during the block: on workers or in this process.

    If ``over_fleet`` is set, workers compute the features, and a report of their work follows the
    block. Otherwise, this process computes the features.

    Raises:
        ConfigError: ``over_fleet`` is set, but no broker is configured.
    """
    if not over_fleet:
        yield
        return
    # slow to import, and most commands need none
    from metafleet.orchestrator.engine.feature_fleet import FeatureFleet  # noqa: PLC0415

    fleet = FeatureFleet(settings, notify)
    with encoding_elsewhere(fleet.encode):
        yield
    done = fleet.encoded
    if not done.n_items:
        notify("no item had to be encoded: the data have no encoder, or their features are stored")
        return
    n = len(done.workers)
    notify(
        f"{done.n_items:,} items encoded by {n} worker process{'' if n == 1 else 'es'}: "
        f"{done.sent_bytes / 1e6:.1f} MB sent, {done.received_bytes / 1e6:.1f} MB received"
    )
