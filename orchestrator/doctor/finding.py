"""Results of the doctor's checks."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from metafleet.errors import MetafleetError


class Severity(StrEnum):
    """How bad a finding is: only ``FAIL`` keeps experiments from running."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        topic: what was checked, e.g. "redis".
        severity: how serious the finding is.
        text: what was found.
        remedy: what to do about the finding; "" if nothing must be done.
    """

    topic: str
    severity: Severity
    text: str
    remedy: str = ""


def ok(topic: str, text: str) -> Finding:
    """Make a finding that needs no action."""
    return Finding(topic, Severity.OK, text)


def warn(topic: str, text: str, remedy: str) -> Finding:
    """Make a finding that needs attention."""
    return Finding(topic, Severity.WARN, text, remedy)


def fail(topic: str, text: str, remedy: str) -> Finding:
    """Make a finding that keeps experiments from running."""
    return Finding(topic, Severity.FAIL, text, remedy)


def run_check(topic: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Run one check; turn a MetafleetError into a finding whose remedy is its last clause."""
    try:
        return check()
    except MetafleetError as error:
        text, _, remedy = str(error).rpartition("; ")
        return [fail(topic, text, remedy) if text else fail(topic, remedy, "see above")]
