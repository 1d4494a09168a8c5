"""The Celery app. It is configured so that lost or repeated messages do no harm.

docs/explanation/engine.md explains the settings.
"""

from celery import Celery
from kombu.entity import Queue

from metafleet.contracts.connections import CONNECT_TIMEOUT_S, SOCKET_TIMEOUT_S
from metafleet.contracts.keys import KEY_PREFIX, queue_name, queue_of


def make_app(broker_url: str, signing_key: str = "") -> Celery:
    """Make a Celery app that connects to ``broker_url`` on first use and reads no environment.

    Each signing key has its own queues. The option ``-Q inner.cpu`` therefore selects the CPU queue
    of ``signing_key``.
    """
    app = Celery("metafleet", broker=broker_url, set_as_current=False)
    queues = [
        # a message is only a hint, and the ledger survives its loss. Acknowledgements, with which
        # Celery redelivers after some minutes, would cost two transactions a job for nothing
        Queue(queue_name(queue, signing_key), alias=queue, no_ack=True)
        for queue in (queue_of("cpu"), queue_of("cuda"))
    ]
    app.conf.update(
        # accepting pickle is remote code execution, even if we never send it
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        # results go through the ledger: Celery's result backend copies and publishes each one
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_queues=queues,
        task_default_queue=queues[0].name,
        task_create_missing_queues=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        broker_transport_options={
            "health_check_interval": 5,
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_keepalive": True,
            "global_keyprefix": KEY_PREFIX,
        },
        # keep retrying a broker that is down, but do not wait forever for one that hangs
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # also retry a broker that takes no writes for a while, as in a failover
        broker_channel_error_retry=True,
        broker_pool_acquire_timeout=30,
        # forked children break CUDA and inherit torch's threads; spawned ones import torch first
        worker_pool_start_method="spawn",
        worker_proc_alive_timeout=60,
        # anyone with the broker's password could shut workers down or silently starve them
        worker_enable_remote_control=False,
        worker_send_task_events=True,
        task_send_sent_event=False,
        worker_hijack_root_logger=False,
        task_track_started=False,
    )
    return app
