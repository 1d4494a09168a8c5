"""Log lines: text for people, JSON for machines, with the job that they are about."""

import io
import json
import logging
import threading
from dataclasses import replace

import pytest
from structlog.contextvars import bound_contextvars

from metafleet.contracts.logs import in_this_context, job_context, make_formatter
from metafleet.contracts.settings import Settings
from metafleet.errors import ConfigError
from tests.messages import make_job

SETTINGS = replace(Settings.load({}), broker_url="redis://:swordfish@host/0")


class Log:
    """A logger that writes to memory."""

    def __init__(self, form: str, worker: str = "") -> None:
        self._stream = io.StringIO()
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(make_formatter(replace(SETTINGS, log_format=form), worker=worker))
        self.logger = logging.getLogger(f"metafleet.test.{id(self)}")
        self.logger.propagate = False
        self.logger.addHandler(handler)
        self.logger.setLevel(logging.INFO)

    @property
    def text(self) -> str:
        return self._stream.getvalue()


def test_a_line_of_text_reads_like_a_sentence_with_its_job_at_the_end() -> None:
    log = Log("text", "host:42")

    with job_context(make_job()):
        log.logger.warning("refused: %s", "no data")

    line = log.text.rstrip("\n")
    assert line.endswith(
        f" WARNING {log.logger.name}: refused: no data "
        "[run=run-1 stream=train step=7 shard=1 attempt=1 worker=host:42]"
    )
    assert line[:4].isdecimal() and line[4] == "-" and line[19] == ","


def test_a_line_without_fields_has_no_brackets() -> None:
    log = Log("text")

    log.logger.info("began")

    assert log.text.endswith(": began\n")


def test_a_line_of_json_has_the_same_fields_and_the_traceback() -> None:
    log = Log("json", "host:42")

    with bound_contextvars(run="r1", step=3):
        try:
            raise ValueError("swordfish\n\u5b57")
        except ValueError:
            log.logger.exception("lost %s", "redis://:swordfish@host/0")

    (line,) = log.text.splitlines()
    found = json.loads(line)
    assert found["event"] == "lost redis://:***@host/0"
    assert (found["run"], found["step"], found["worker"]) == ("r1", 3, "host:42")
    assert (found["level"], found["logger"]) == ("error", log.logger.name)
    assert found["time"].endswith("+00:00") and found["process"] > 0
    assert "ValueError: ***\n\u5b57" in found["exception"]
    assert "swordfish" not in line


def test_a_traceback_in_text_follows_its_line_without_secrets() -> None:
    log = Log("text")
    try:
        raise ValueError("swordfish")
    except ValueError:
        log.logger.exception("failed")

    assert log.text.splitlines()[1] == "Traceback (most recent call last):"
    assert log.text.splitlines()[-1] == "ValueError: ***"


def test_a_thread_names_the_run_of_the_thread_that_made_it() -> None:
    log = Log("text")
    with bound_contextvars(run="r1"):
        thread = threading.Thread(target=in_this_context(lambda: log.logger.info("from a thread")))
    thread.start()
    thread.join()

    assert log.text.endswith("from a thread [run=r1]\n")


def test_another_form_is_refused() -> None:
    with pytest.raises(ConfigError, match="METAFLEET_LOG='xml'; expected one of text, json"):
        Settings.load({"METAFLEET_LOG": "xml"})
