"""Finding, describing, cloning and deleting runs from the command line."""

import csv
import io
import json
import os
import pty
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import delete

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import (
    EPISODE_RESULTS,
    EpisodeResultsRecord,
    EvaluationRecord,
    NewRun,
    RunStatus,
)
from metafleet.db.repositories import (
    EpisodeResultsRepository,
    EvaluationRepository,
    RunRepository,
)
from metafleet.errors import RunNotFoundError
from metafleet.orchestrator.records.difference import shipped_config
from metafleet.orchestrator.runs.run_lock import run_lock
from tests.fleet import ROOT
from tests.integration.orchestrator.cli.terminal import TINY
from tests.integration.orchestrator.conftest import Command

HEADINGS = ("runs", "seeds", "experiment")
RESULTS = ("best", "last", "test")


@pytest.fixture
def four_runs(home: Path) -> Path:
    """Two learning rates with two seeds each; the last run failed without results."""
    with Database.open(f"sqlite:///{home}/metafleet.db") as database, database.session() as session:
        for number, (lr, seed) in enumerate([(0.1, 1), (0.1, 2), (0.01, 1), (0.01, 2)], start=1):
            config = shipped_config("omniglot-maml") or {}
            config |= {"seed": seed, "outer": {**config["outer"], "lr": lr}}
            new = NewRun(
                experiment="omniglot-maml", name="maml", seed=seed, n_steps=1000, config=config
            )
            runs = RunRepository(session)
            run = runs.add(new)
            if number == 4:
                runs.mark_status(run.id, RunStatus.FAILED, error="no [bold]room")
                continue
            rows = [
                EvaluationRecord(
                    step=step,
                    split=split,
                    label="trained",
                    episodes=100,
                    loss=0.5,
                    loss_ci95=0.1,
                    accuracy=0.9 + number / 100 + step / 1000,
                    accuracy_ci95=0.004,
                    batch_norm="batch",
                    is_best=split == "meta_val",
                )
                for step, split in [(1, "meta_val"), (2, "meta_val"), (2, "meta_test")]
            ]
            EvaluationRepository(session).upsert_many(run.id, rows)
            runs.mark_status(run.id, RunStatus.FINISHED)
    return home


def test_the_list_says_which_run_was_best(four_runs: Path, command: Command) -> None:
    status, out, _ = command("runs", "list", "--sort", "-best")

    rows = [line.split() for line in out.splitlines()[3:] if line.strip()]
    assert status == 0
    assert [row[0] for row in rows] == ["3", "2", "1", "4"]
    assert "93.20 ± 0.40 %   93.20 %   93.20 ± 0.40 %" in out


def test_chosen_columns_come_as_table_csv_and_json(four_runs: Path, command: Command) -> None:
    wanted = ("runs", "list", "--where", "outer.lr=0.1", "--columns", "id, outer.lr,best,note")

    _, table, _ = command(*wanted)
    lines = [re.split(r" {2,}", line.strip()) for line in table.splitlines() if "─" not in line]
    assert [line for line in lines if line != [""]] == [
        ["id", "outer.lr", "best", "note"],
        ["2", "0.1", "92.20 ± 0.40 %", "-"],
        ["1", "0.1", "91.20 ± 0.40 %", "-"],
    ]
    _, text, _ = command(*wanted, "--csv")
    assert list(csv.reader(io.StringIO(text))) == [
        ["id", "outer.lr", "best", "note"],
        ["2", "0.1", repr(0.9 + 0.02 + 0.002), ""],
        ["1", "0.1", repr(0.9 + 0.01 + 0.002), ""],
    ]
    _, document, _ = command(*wanted, "--json")
    assert [run["id"] for run in json.loads(document)] == [2, 1]
    assert json.loads(document)[0]["outer.lr"] == 0.1 and json.loads(document)[0]["note"] is None


def test_groups_show_what_differs_and_their_means(four_runs: Path, command: Command) -> None:
    _, out, _ = command("runs", "list", "--group")

    assert out.splitlines()[1].split() == [*HEADINGS, "outer.lr", *RESULTS]
    assert "91.70 ± 6.35 %" in out  # half of the difference times 12.7062
    assert "93.20 % (n=1)" in out
    _, text, _ = command("runs", "list", "--group", "--json")
    groups = json.loads(text)
    assert [group["runs"] for group in groups] == [[4, 3], [2, 1]]
    assert groups[1]["results"]["best"]["n"] == 2 and "seed" not in groups[1]["config"]
    assert groups[0]["status"] == ["failed", "finished"]
    _, text, _ = command("runs", "list", "--group", "--csv", "--limit", "1")
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["runs"], row["seeds"], row["best.ci95"]) == ("2", "2", "")


@pytest.mark.parametrize("columns", [120, 80, 40])
def test_a_list_fits_into_the_terminal(four_runs: Path, columns: int) -> None:
    text = in_terminal(columns, "runs", "list")

    assert max(map(len, text.splitlines())) <= columns
    assert text.count("finished") == 3 and text.count("91.20 ± 0.40 %") >= 1
    assert "…" not in text
    assert ("uid" in text) == (columns == 120)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--where", "lr<0.1"), "error: no run has the key 'lr'; "),
        (("--where", "outer.lr<0.1 and"), "error: --where: the filter ends after"),
        (("--where", "status=dead"), "error: --where: status='dead'; expected one of created"),
        (("--sort", "bets"), "error: no run has the key 'bets'; did you mean best"),
        (("--columns", "[bold]"), "error: no run has the key '[bold]'"),
        (("--json", "--csv"), "error: --json and --csv are two forms of the same list"),
    ],
)
def test_a_wrong_list_is_refused_in_one_line(
    four_runs: Path, command: Command, arguments: tuple[str, ...], said: str
) -> None:
    status, out, error = command("runs", "list", *arguments)

    assert status != 0 and out == ""
    assert error.startswith(said) and error.count("\n") == 1


def set_status(home: Path, run_id: int, status: RunStatus) -> None:
    with Database.open(f"sqlite:///{home}/metafleet.db") as database, database.session() as session:
        RunRepository(session).mark_status(run_id, status)


def test_nothing_found_is_said(four_runs: Path, command: Command) -> None:
    assert command("runs", "list", "--where", "seed>5")[1] == "no run matches\n"
    set_status(four_runs, 4, RunStatus.RUNNING)
    status, _, error = command("runs", "archive", "4")
    assert status == 1 and "run 4 is running; expected a run that has ended" in error
    set_status(four_runs, 4, RunStatus.FAILED)
    assert command("runs", "archive", "4")[0] == 0
    _, out, _ = command("runs", "list", "--where", "status=failed")
    assert out == "no run matches; --archived includes archived runs\n"
    assert "failed" in command("runs", "list", "--archived")[1]
    assert command("runs", "archive", "4", "--undo")[1] == "run 4 is listed again\n"
    assert "failed" in command("runs", "list")[1]


def test_tags_and_notes_are_shown_and_found(four_runs: Path, command: Command) -> None:
    assert command("runs", "tag", "3", "paper", "v[2]")[1] == "tags of run 3: paper v[2]\n"
    assert (
        command("runs", "note", "3", "[red]the good one")[1] == "note of run 3: [red]the good one\n"
    )

    shown = command("runs", "show", "3")[1]
    assert "tags        paper v[2]\n" in shown and "note        [red]the good one\n" in shown
    assert "changes     from experiment omniglot-maml:\n" in shown
    assert "            outer.lr: 0.001 -> 0.01\n" in shown
    document = json.loads(command("runs", "show", "3", "--json")[1])
    assert document["tags"] == ["paper", "v[2]"] and document["note"] == "[red]the good one"
    assert document["changes"]["keys"] == [{"key": "outer.lr", "before": 0.001, "after": 0.01}]
    found = command("runs", "list", "--where", "tags=paper", "--columns", "id,tags,note")[1]
    assert "3   paper v[2]   [red]the good one" in found
    assert command("runs", "tag", "3", "paper", "v[2]", "--remove")[1] == "tags of run 3: none\n"
    status, _, error = command("runs", "tag", "3", "two words")
    assert status == 1 and "'two words' contains a space" in error and "no tag was set" in error
    assert command("runs", "note", "2", "")[1] == "run 2 has no note\n"
    status, _, error = command("runs", "note", "3", "x" * 10_001)
    assert status == 1 and "has 10001 characters; expected at most 10000" in error


def test_deleting_takes_rows_and_checkpoints_but_no_open_run(
    four_runs: Path, command: Command
) -> None:
    database = Database.open(f"sqlite:///{four_runs}/metafleet.db")
    with database.session() as session:
        runs = RunRepository(session).list()
        RunRepository(session).mark_status(4, RunStatus.QUEUED)
    folder = four_runs / "runs" / runs[-1].uid
    folder.mkdir(parents=True)
    (folder / "step-1.safetensors").write_bytes(b"x")

    status, _, error = command("runs", "delete", "1", "2")
    assert status == 1 and error.endswith("there is no terminal to ask; add --yes\n")
    status, _, error = command("runs", "delete", "1", "4", "--yes")
    assert status == 1
    assert error == (
        "error: run 4 is queued, so it cannot be deleted; stop it first with "
        "`metafleet runs cancel 4`\n"
    )
    assert command("runs", "delete", "1", "77", "--yes")[0] == 1
    with run_lock(Settings.load(), runs[-1], is_granted=False):
        status, _, error = command("runs", "delete", "1", "--yes")
    assert status == 1 and "is being run by another process" in error
    assert folder.exists() and "no run matches" not in command("runs", "list")[1]

    assert command("runs", "tag", "1", "gone")[0] == 0
    status, out, _ = command("runs", "delete", "1", runs[-1].uid, "2", "--yes")
    assert status == 0 and out.count("run 1 ") == 1 and out.count("run 2 ") == 1
    assert not folder.exists()
    with database.session(read_only=True) as session:
        assert [run.id for run in RunRepository(session).list()] == [4, 3]
        assert EvaluationRepository(session).list(1) == ()
        assert len(EvaluationRepository(session).list(3)) == 3
        with pytest.raises(RunNotFoundError):
            RunRepository(session).get(1)
    database.close()


def test_a_terminal_is_asked_before_deleting(four_runs: Path) -> None:
    text = in_terminal(80, "runs", "delete", "3", answer="n\n")
    assert "run 3 " in text and "finished after 0 of 1000 steps" in text and "interrupted" in text
    text = in_terminal(80, "runs", "delete", "3", answer="y\n")
    assert "deleted: run 3" in text


def test_a_clone_records_its_parent_and_what_was_changed(
    tmp_path: Path, home: Path, command: Command
) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    assert command("submit", str(tmp_path / "tiny.toml"), "--in-process", "--name", "mine")[0] == 0

    status, out, error = command(
        *("runs", "clone", "mine", "--set", "outer.lr=0.25", "--set", "test.episodes=3"),
        *("--seeds", "7", "--in-process", "--json"),
    )
    assert status == 0, error
    clone = json.loads(out)
    document = json.loads(command("runs", "show", clone["uid"], "--json")[1])
    parent = json.loads(command("runs", "show", "1", "--json")[1])
    assert (document["name"], document["seed"]) == ("mine", 7)
    assert document["parent_uid"] == parent["uid"] and parent["parent_uid"] is None
    assert document["changes"] == {
        "origin": f"run {parent['uid']}",
        "keys": [
            {"key": "outer.lr", "before": 0.001, "after": 0.25},
            {"key": "test.episodes", "before": 4, "after": 3},
        ],
    }
    assert command("runs", "list", "--where", f"parent={parent['uid']}", "--columns", "id")[0] == 0
    assert command("runs", "delete", "1", "--yes")[0] == 0
    assert json.loads(command("runs", "show", "2", "--json")[1])["changes"] is None

    status, _, error = command("runs", "clone", "2", "--set", "outer.rl=1", "--in-process")
    assert status == 1 and "outer.rl" in error
    status, _, error = command("runs", "clone", "2", "--set", "learner.inner_rl=1", "--in-process")
    assert status == 1 and "inner_rl" in error
    assert len(json.loads(command("runs", "list", "--json")[1])) == 1


def in_terminal(columns: int, *arguments: str, answer: str = "") -> str:
    """Run a command in a terminal of this width and return what it shows, without colours."""
    terminal, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "metafleet.orchestrator", *arguments],
        env=os.environ | {"COLUMNS": str(columns), "TERM": "xterm", "PYTHONPATH": str(ROOT)},
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    )
    os.close(side)
    os.write(terminal, answer.encode())
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        shown += part
    process.wait(timeout=60)
    os.close(terminal)
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r", "")


def test_two_runs_are_compared_and_evaluated_again_if_they_must(
    home: Path, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    for lr in ("0.001", "0.1"):
        assert command("submit", str(file), "--set", f"outer.lr={lr}", "--in-process")[0] == 0
    with Database.open(f"sqlite:///{home}/metafleet.db") as database, database.session() as session:
        kept = [row for row in EpisodeResultsRepository(session).list(1) if row.label == "trained"]
        recorded = EvaluationRepository(session).list(1, label="trained")
        session.execute(delete(EPISODE_RESULTS).where(EPISODE_RESULTS.c.run_id == 1))

    assert [(row.step, row.split, len(row.losses)) for row in kept] == [
        (3, "meta_val", 4),
        (6, "meta_test", 4),
        (6, "meta_val", 4),
    ]
    for row in kept:
        (judged,) = (e for e in recorded if (e.step, e.split) == (row.step, row.split))
        assert statistics.fmean(row.losses) == pytest.approx(judged.loss, rel=1e-12)

    status, _, error = command("runs", "compare", "1", "2", "--curves", "c.xyz")
    assert status == 2 and "'c.xyz'; expected a name that ends in .png" in error
    status, out, error = command("runs", "compare", "1", "2")
    assert status == 1 and "not compared" in out
    assert "B against A: a run has no results of single episodes; --evaluate" in error
    status, out, error = command("runs", "compare", "1", "2", "--evaluate")
    assert (status, out) == (1, "") and "--in-process" in error
    picture = tmp_path / "curves.png"
    again = ("runs", "compare", "1", "2", "--evaluate", "--in-process", "--curves", str(picture))
    status, out, error = command(*again)
    assert status == 0 and "4 episodes" in out and "one seed: this compares two trained" in error
    assert picture.read_bytes().startswith(b"\x89PNG")
    with Database.open(f"sqlite:///{home}/metafleet.db") as database, database.session() as session:
        found = EpisodeResultsRepository(session).list(1, split="meta_test", label="trained")
    assert found == tuple(row for row in kept if row.split == "meta_test")
    document = json.loads(command("runs", "compare", "1", "2", "--json")[1])
    assert document["keys"] == {"outer.lr": [0.001, 0.1]}
    assert document["against_first"][0]["of_episodes"]["n"] == 4


@pytest.mark.parametrize("columns", [80, 40])
def test_a_comparison_fits_into_the_terminal(four_runs: Path, columns: int) -> None:
    with (
        Database.open(f"sqlite:///{four_runs}/metafleet.db") as database,
        database.session() as session,
    ):
        for run_id, score in ((1, 0.0), (2, 0.5), (3, 1.0)):
            rows = [
                EpisodeResultsRecord(
                    step=2,
                    split="meta_test",
                    label="trained",
                    episodes=3,
                    losses=(1.0, 1.0, 1.0),
                    accuracies=(0.5, score, score),
                )
            ]
            EpisodeResultsRepository(session).upsert_many(run_id, rows)
    text = in_terminal(columns, "runs", "compare", "1", "3")

    lines = [line for line in text.splitlines() if not line.startswith("one seed:")]
    assert max(map(len, lines)) <= columns
    assert "outer.lr" in text and "+66.67 %" in text and "no difference" in text


def test_an_option_that_has_no_effect_alone_is_refused(four_runs: Path, command: Command) -> None:
    status, _, error = command("runs", "compare", "1", "2", "--in-process")

    assert status != 0 and "--in-process goes with --evaluate; add --evaluate" in error
