"""The table of what was judged on a split."""

import pytest

from orchestrator.cli.execution import show_evaluations
from orchestrator.events import EvaluationDone
from tests.runs import config

JUDGED = [
    EvaluationDone(
        split="meta_test",
        label="trained",
        step=3,
        episodes=10,
        loss=0.4,
        loss_ci95=0.1,
        accuracy=None,
        accuracy_ci95=None,
        batch_norm="none",
        is_best=False,
    )
]


def test_noise_of_the_targets_stands_above_the_errors(capsys: pytest.CaptureFixture[str]) -> None:
    noisy = {"name": "function_families", "noise_std": 0.2}

    show_evaluations(JUDGED, config(data=noisy))
    rows = capsys.readouterr().out.splitlines()

    noise, trained = (next(row for row in rows if text in row) for text in ("noise", "0.4000"))
    assert noise.split()[-1] == "0.0400"
    assert rows.index(noise) < rows.index(trained)


def test_without_noise_there_is_no_such_row(capsys: pytest.CaptureFixture[str]) -> None:
    show_evaluations(JUDGED, config())

    assert "noise" not in capsys.readouterr().out
