"""The module that Celery loads. No other module does work when it is imported.

celery -A metafleet.workers.app worker --loglevel INFO --without-gossip --without-mingle
"""

import sys

from metafleet.contracts.celery_app import make_app
from metafleet.contracts.connections import require_broker_url
from metafleet.contracts.device import prepare_process, resolve_device
from metafleet.contracts.private_files import keep_private, tighten
from metafleet.contracts.settings import Settings
from metafleet.errors import MetafleetError
from metafleet.workers import broker, tasks
from metafleet.workers.lifecycle import Lifecycle

__all__ = ["app", "device", "tasks"]

try:
    settings = Settings.load()
    broker.use()
    app = make_app(require_broker_url(settings), settings.signing_key)
    # a pool's children, which are new interpreters, then load this module and its signal handlers
    app.conf.include = [__name__]
    keep_private()  # also applies to a pool's child processes
    tighten(settings.home)
    device = resolve_device(settings.device)
    prepare_process(device)
    Lifecycle(app, settings).connect()
except MetafleetError as error:
    sys.exit(f"error: {error}")
