"""Tests that `make test` leaves out are few, and each says why."""

import re

from tests.paths import REPOSITORY

MARK = re.compile(r'mark\.slow\b(\("[^"]{20,}"\))?')


def test_a_slow_test_says_why_and_is_an_exception() -> None:
    marks = [
        (path.name, found[1])
        for path in (REPOSITORY / "tests").rglob("*.py")
        for found in MARK.finditer(path.read_text())
    ]

    assert 0 < len(marks) < 30
    assert not [name for name, reason in marks if not reason]
