"""The last row of the failure matrix: everything at once."""

import pytest

from tests.faults.soak import soak
from tests.running import ROWS, Row

SEED = 7


@pytest.mark.parametrize(
    "seconds", [15, pytest.param(60, marks=pytest.mark.slow("sixty seconds of random faults"))]
)
def test_a_random_killer(tmp_path_factory: pytest.TempPathFactory, seconds: int) -> None:
    with soak(tmp_path_factory.mktemp("soak"), seed=SEED) as opened:
        facts = opened.work(seconds)

    happened = f"{facts.faults.total()} faults, {facts.accepted} of {facts.planned} shards counted"
    broken = f"random killer, {seconds} s, seed {SEED}"
    ROWS.append(Row(broken, happened, None, facts.runs > 0 and not facts.other_bits))
    assert facts.is_as_promised, f"\n{facts}"
