"""The shipped portfolio, and its format."""

from pathlib import Path

from metafleet.orchestrator.advice.evidence import Contest, Result
from metafleet.orchestrator.advice.portfolio import read_portfolio, write_portfolio
from tests.advice import contest


def test_what_is_written_is_read(tmp_path: Path) -> None:
    whole, part = contest(0.3), contest(0.6)
    part = Contest(part.data, part.description, 5, 1, part.results[2:])
    write_portfolio([whole, part], tmp_path / "p.json")

    first, second = read_portfolio(tmp_path / "p.json")
    for found, given in ((first, whole), (second, part)):
        assert found.description == given.description and found.n_way == 5
        scores = {repr(sorted(r.values.items())): round(r.score, 5) for r in given.results}
        assert {repr(sorted(r.values.items())): r.score for r in found.results} == scores
        assert all(result == Result(result.values, result.score) for result in found.results)


def test_the_shipped_portfolio_has_results_on_several_kinds_of_data() -> None:
    contests = read_portfolio()

    kinds = {name for c in contests for name in c.description.figures if name.startswith("kind.")}
    assert len(contests) >= 8 and len(kinds) >= 3
    for each in contests:
        assert len(each.results) >= 20 and each.description.landmarks
        assert all(0.0 <= result.score <= 1.0 for result in each.results)
