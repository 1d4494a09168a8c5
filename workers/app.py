"""What ``celery -A workers.app worker`` loads: the only module that works at import.

celery -A workers.app worker --loglevel INFO --without-gossip --without-mingle
"""

import sys

from contracts.celery_app import make_app
from contracts.connections import require_broker_url
from contracts.device import prepare_process, resolve_device
from contracts.private_files import keep_private, tighten
from contracts.settings import Settings
from metafleet.errors import MetafleetError
from workers import broker, tasks
from workers.lifecycle import Lifecycle

__all__ = ["app", "device", "tasks"]

try:
    settings = Settings.load()
    broker.use()
    app = make_app(require_broker_url(settings), settings.signing_key)
    keep_private()  # the children of a pool as well
    tighten(settings.home)
    device = resolve_device(settings.device)
    prepare_process(device)
    Lifecycle(app, settings).connect()
except MetafleetError as error:
    sys.exit(f"error: {error}")
