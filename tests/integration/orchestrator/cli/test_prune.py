"""Old checkpoints and job rows are deleted; what a run still needs stays."""

import json
from pathlib import Path

import pytest

from metafleet import Client
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import NewRun, RunStatus
from metafleet.db.repositories import CheckpointRepository, RunRepository
from metafleet.orchestrator.client.run import Run
from metafleet.orchestrator.runs import pruning
from metafleet.orchestrator.runs.run_lock import run_lock
from tests.integration.orchestrator.conftest import Command
from tests.runs import SINUSOID

PRUNE = ("runs", "prune")


@pytest.fixture
def run(home: Path) -> Run:
    """A finished run with three checkpoints, of steps 4, 8 and 12."""
    with Client(home=home) as client:
        return client.train(SINUSOID, in_process=True)[0]


def steps(home: Path, run: Run) -> list[int]:
    found = sorted((home / "runs" / run.uid).glob("step-*.safetensors"))
    return [int(path.name[5:14]) for path in found]


def test_a_dry_run_says_what_would_be_freed_and_deletes_nothing(
    home: Path, run: Run, command: Command
) -> None:
    n_bytes = sum(
        (home / "runs" / run.uid / f"step-{step:09d}.safetensors").stat().st_size for step in (4, 8)
    )
    status, out, _ = command(*PRUNE, "--dry-run", "--job-rows", "--json")

    (found,) = json.loads(out)["would_free"]
    assert status == 0 and steps(home, run) == [4, 8, 12]
    assert (found["run"], found["bytes"]) == (run.id, n_bytes)
    with Client(home=home) as client:
        assert found["job_rows"] == len(client.run(run.uid).jobs()) > 0
    status, _, err = command(*PRUNE)
    assert status == 1 and err.endswith("there is no terminal to ask; add --yes\n")
    assert steps(home, run) == [4, 8, 12]


def test_the_newest_checkpoint_stays_and_the_run_can_be_evaluated(
    home: Path, run: Run, command: Command
) -> None:
    status, out, _ = command(*PRUNE, "--yes", "--job-rows")

    assert status == 0 and out.splitlines()[-1].startswith("freed: ")
    assert "in 2 checkpoints, " in out
    assert steps(home, run) == [12]
    with Client(home=home) as client:
        again = client.run(run.uid)
        assert len(again.jobs()) == 0 and len(again.curve()) == 12 and len(again.evaluations()) == 4
    assert command("evaluate", str(run.id), "--episodes", "3", "--in-process")[0] == 0
    assert command(*PRUNE, "--yes", "--job-rows")[1] == "nothing to delete\n"


def test_a_damaged_checkpoint_does_not_count_as_kept(
    home: Path, run: Run, command: Command
) -> None:
    newest = home / "runs" / run.uid / "step-000000012.safetensors"
    newest.write_bytes(newest.read_bytes()[:-8])

    assert command(*PRUNE, "--yes")[0] == 0

    assert steps(home, run) == [8, 12]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (("--keep-last", "2"), [8, 12]),
        (("--keep-last", "0", "--keep-best"), [12]),
        (("--keep-last", "0"), []),
        (("--older-than", "1d"), [4, 8, 12]),
        (("--where", "name=other"), [4, 8, 12]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_policies(
    home: Path, run: Run, command: Command, options: tuple[str, ...], kept: list[int]
) -> None:
    status, _, err = command(*PRUNE, "--yes", *options)

    assert (status, err) == (0, "")
    assert steps(home, run) == kept
    if not kept:  # a resumed run may not begin at step 0 by mistake
        url = f"sqlite:///{home}/metafleet.db"
        with Database.open(url) as database, database.session(read_only=True) as session:
            last = CheckpointRepository(session).find_last(run.id)
        assert last is not None and last.step == 12


def test_runs_in_progress_are_skipped(home: Path, run: Run, command: Command) -> None:
    settings = Settings.load({"METAFLEET_HOME": str(home)})
    with Database.open(settings.database_url) as database, database.session() as session:
        runs = RunRepository(session)
        record = runs.get(run.uid)
        new = NewRun(experiment="e", name="busy", seed=1, n_steps=1, config={})
        runs.mark_status(runs.add(new).id, RunStatus.RUNNING)
    _, out, err = command(*PRUNE, "--dry-run", "busy")
    assert out == "nothing to delete\n" and "run 2 (busy, seed 1) is skipped: it is running" in err

    with run_lock(settings, record, is_granted=False):
        status, _, err = command(*PRUNE, "--yes")

    assert status == 0 and f"run {run.id} is skipped: a process of this host" in err
    assert steps(home, run) == [4, 8, 12]


def test_an_interruption_keeps_the_rest_and_says_what_was_freed(
    home: Path, run: Run, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = pruning.delete_job_rows
    calls = []

    def interrupted(session: object, run_id: int) -> int:
        if calls:
            raise KeyboardInterrupt
        calls.append(run_id)
        return delete(session, run_id, at_once=5)  # type: ignore[arg-type]

    monkeypatch.setattr(pruning, "delete_job_rows", interrupted)
    with Client(home=home) as client:
        before = len(client.run(run.uid).jobs())
        status, out, _ = command(*PRUNE, "--yes", "--job-rows")
        after = len(client.run(run.uid).jobs())

    assert status == 130 and 0 < after < before
    assert f"in 2 checkpoints, {before - after} job rows" in out.splitlines()[-1]
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--older-than", "soon"), "'soon'; expected an age such as 30d or 12h"),
        (("--keep-last", "-1"), "-1 is not in the range x>=0"),
        (("99",), "no run '99' among 1"),
        (("--where", "outer.lr<abc"), "--where: outer.lr<'abc'; expected a number"),
        (("1", "--where", "seed=1"), "both RUN and --where are given; expected one of them"),
    ],
)
def test_wrong_input_is_one_line(
    run: Run, command: Command, options: tuple[str, ...], message: str
) -> None:
    status, out, err = command(*PRUNE, *options)

    assert status != 0 and out == ""
    assert message in err and err.count("\n") == 1
