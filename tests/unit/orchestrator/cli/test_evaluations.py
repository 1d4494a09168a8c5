"""The tables of what was judged on a split."""

import re
from dataclasses import replace

import pytest

from metafleet.orchestrator.cli.evaluations import show_evaluations, show_seeds
from metafleet.orchestrator.cli.tables import make_table, show_table
from metafleet.orchestrator.training.events import EvaluationDone
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


def test_changes_of_the_episodes_stand_above_the_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    otherwise = "k_shot=5, missing_rate=0.3"
    judged = [
        replace(JUDGED[0], label=f"{what}, {otherwise}", accuracy=0.5, accuracy_ci95=0.01)
        for what in ("trained", "initialisation")
    ]

    show_evaluations(judged, config(episodes={"n_way": 5, "k_shot": 5, "n_query": 2}))

    out = capsys.readouterr().out
    assert out.splitlines()[0].endswith(f"batch norm none; {otherwise}")
    assert out.count(otherwise) == 1


def test_seeds_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    of_seed = [[replace(JUDGED[0], accuracy=a, loss=1 - a)] for a in (0.7, 0.8, 0.9)]
    lone = replace(JUDGED[0], label="initialisation", accuracy=0.2)

    show_seeds([[*of_seed[0], lone], *of_seed[1:]])

    out = capsys.readouterr().out
    assert "mean of 3 seeds ± standard deviation" in out
    assert "80.00 ± 10.00 %" in out and "0.2000 ± 0.1000" in out
    assert "without" not in out  # which one seed has alone
    show_seeds([[], []])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_narrow_terminal_cuts_no_figure(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    figures = ("step", "episodes", "accuracy (95 %)", "loss (95 %)")
    table = make_table("judged", *figures, right=figures, fold="judged")
    judged = "meta-trained, " + ", ".join(f"meta_test.missing_rate=0.{n}" for n in range(4))
    table.add_row(judged, "400", "1000", "98.12 ± 0.31 %", "0.3861 ± 0.0169")

    show_table(table)

    out = re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out)
    assert "…" not in out
    assert all(figure in out for figure in ("400", "1000", "98.12 ± 0.31 %", "0.3861 ± 0.0169"))
    assert width < 60 or max(map(len, out.splitlines())) <= width


def test_lines_in_a_pipe_end_where_their_text_ends(capsys: pytest.CaptureFixture[str]) -> None:
    table = make_table("judged", "step", right=("step",), fold="judged")
    table.add_row("[bold]meta-trained[/] " + "x" * 60, "1")
    table.add_row("short", "")

    show_table(table)

    lines = capsys.readouterr().out.splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert any(line.strip() == "short" for line in lines)


def test_a_name_in_one_word_folds_before_a_terminal_wraps_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    headings = ("id", "uid", "name", "seed", "status", "steps", "created (UTC)")
    table = make_table(*headings, fold="name", least_width=12)
    table.add_row("12", "b6mfw5vd", "n" * 40, "1", "finished", "100/100", "2026-11-30 00:25")

    show_table(table)

    lines = re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count("n" * 5) > 0 for line in lines) > 1


@pytest.mark.parametrize(
    ("untrained", "told"),
    [(0.7, "made it worse than 'without meta-training'"), (0.63, "")],
)
def test_training_that_made_it_worse_is_told(
    untrained: float, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = replace(JUDGED[0], accuracy=0.6, accuracy_ci95=0.02)
    judged = [trained, replace(trained, label="initialisation", accuracy=untrained)]

    show_evaluations(judged, config(episodes={"n_way": 5, "k_shot": 1, "n_query": 2}))

    noted = capsys.readouterr().err
    assert told in noted
    assert bool(told) == bool(noted)


def test_a_larger_error_than_without_training_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    show_evaluations([JUDGED[0], replace(JUDGED[0], label="initialisation", loss=0.1)], config())

    assert "made it worse" in capsys.readouterr().err
