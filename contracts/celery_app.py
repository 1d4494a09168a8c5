"""The Celery app, with the settings that keep it a safe carrier of hints.

Why each setting is as it is: design notes in docs/explanation/engine.md.
"""

from celery import Celery
from kombu.entity import Queue

from metafleet.contracts.connections import CONNECT_TIMEOUT_S, SOCKET_TIMEOUT_S
from metafleet.contracts.keys import KEY_PREFIX, queue_name, queue_of


def make_app(broker_url: str, signing_key: str = "") -> Celery:
    """Make a Celery app over ``broker_url``; connects on first use, reads no environment.

    Its queues are those of ``signing_key``; ``-Q inner.cpu`` means the one of this key.
    """
    app = Celery("metafleet", broker=broker_url, set_as_current=False)
    queues = [
        # a message is a hint that the ledger outlives: acknowledging each, for Celery to deliver it
        # again some minutes later, costs two transactions a job and gains nothing
        Queue(queue_name(queue, signing_key), alias=queue, no_ack=True)
        for queue in (queue_of("cpu"), queue_of("cuda"))
    ]
    app.conf.update(
        # accepting pickle is remote code execution, even if we never send it
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        # results travel by the ledger: Celery's result backend copies and publishes each of them
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
        # never give up on a broker that is away; never wait for ever on one that hangs
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # nor on one that takes no writes for a while, as in a failover
        broker_channel_error_retry=True,
        broker_pool_acquire_timeout=30,
        # forked children break CUDA and inherit torch's threads; a spawned one imports torch first
        worker_pool_start_method="spawn",
        worker_proc_alive_timeout=60,
        # who has the broker's password could shut workers down, or let them starve unseen
        worker_enable_remote_control=False,
        worker_send_task_events=True,
        task_send_sent_event=False,
        worker_hijack_root_logger=False,
        task_track_started=False,
    )
    return app
