import re
from collections.abc import Iterator

from metafleet.contracts.attempt_outcomes import REASONS, AttemptOutcome, AttemptReason
from metafleet.errors import BlobMissingError, ContractError
from tests.paths import REPOSITORY

PAGE = REPOSITORY / "docs" / "explanation" / "engine.md"


def breaches(kind: type[ContractError] = ContractError) -> Iterator[type[ContractError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from breaches(below)


def test_the_table_of_the_documentation_has_every_reason() -> None:
    _, _, below = PAGE.read_text().partition("| outcome | reasons |\n")
    rows = [line.split("|")[1:3] for line in below.partition("\n\n")[0].splitlines()[1:]]
    found = {
        AttemptOutcome(re.findall(r"`(\w+)`", outcome)[0]): re.findall(r"`(\w+)`", reasons)
        for outcome, reasons in rows
    }
    assert {outcome: sorted(reasons) for outcome, reasons in found.items()} == {
        outcome: sorted(reasons) for outcome, reasons in REASONS.items()
    }


def test_every_reason_belongs_to_an_outcome() -> None:
    assert set().union(*REASONS.values()) == set(AttemptReason)


def test_every_breach_of_contract_is_a_reason_to_reject_a_result() -> None:
    kinds = [*breaches(), BlobMissingError]
    assert len(kinds) > 5
    assert {AttemptReason(kind.reason) for kind in kinds} <= REASONS[AttemptOutcome.REJECTED]
