"""The shipped portfolio: results of our own experiments, for a database without any.

`python -m benchmarks.warm_start portfolio` makes the file from a database of runs.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from metafleet.describing.description import Description
from metafleet.files import write_whole
from metafleet.orchestrator.advice.evidence import Contest, Result, key_of

PORTFOLIO: Final = Path(__file__).with_name("portfolio.json")
_DIGITS: Final = 5


def read_portfolio(path: Path = PORTFOLIO) -> list[Contest]:
    """Read the results of a portfolio."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    configurations = tree["configurations"]
    return [
        Contest(
            data=each["data"],
            description=Description.from_json(each["description"]),
            n_way=each["n_way"],
            k_shot=each["k_shot"],
            results=tuple(
                Result(values, score)
                for values, score in zip(configurations, each["scores"], strict=True)
                if score is not None
            ),
        )
        for each in tree["contests"]
    ]


def write_portfolio(contests: Sequence[Contest], path: Path) -> None:
    """Write a portfolio: the configurations once, and a line of scores for each contest."""
    values = {key_of(r.values): dict(r.values) for c in contests for r in c.results}
    keys = sorted(values)
    tree: dict[str, Any] = {
        "configurations": [values[key] for key in keys],
        "contests": [
            {
                "data": contest.data,
                "description": asdict(contest.description),
                "n_way": contest.n_way,
                "k_shot": contest.k_shot,
                "scores": _scores(contest, keys),
            }
            for contest in contests
        ],
    }
    write_whole(path, (_dumped(tree) + "\n").encode(), mode=None)


def _scores(contest: Contest, keys: Sequence[str]) -> list[float | None]:
    found = {key_of(result.values): round(result.score, _DIGITS) for result in contest.results}
    return [found.get(key) for key in keys]


def _dumped(tree: dict[str, Any]) -> str:
    """Return JSON with one line for each configuration and contest."""
    parts = []
    for name, rows in tree.items():
        lines = ",\n".join(f"  {json.dumps(row, sort_keys=True)}" for row in rows)
        parts.append(f'"{name}": [\n{lines}\n]')
    return "{\n" + ",\n".join(parts) + "\n}"
