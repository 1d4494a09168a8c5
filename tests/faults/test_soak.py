"""The last row of the failure matrix: a minute of everything at once."""

import pytest

from tests.faults.soak import soak
from tests.running import ROWS, Row

SECONDS = 60.0
SEED = 7


def test_a_random_killer_for_a_minute(tmp_path_factory: pytest.TempPathFactory) -> None:
    with soak(tmp_path_factory.mktemp("soak"), seed=SEED) as opened:
        facts = opened.work(SECONDS)

    happened = f"{facts.faults.total()} faults, {facts.accepted} of {facts.planned} shards counted"
    broken = f"random killer, {SECONDS:.0f} s, seed {SEED}"
    ROWS.append(Row(broken, happened, None, facts.runs > 0 and not facts.other_bits))
    assert facts.is_as_promised, f"\n{facts}"
