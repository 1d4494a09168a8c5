"""Sweeps from the command line: resumed, over servers, and their choice tested once."""

import json
import random
import shlex
from pathlib import Path
from typing import Any

import optuna
import pytest

from metafleet.contracts.settings import Settings, child_environment
from metafleet.db.engine import Database
from metafleet.db.records import RunStatus
from metafleet.db.repositories import EvaluationRepository, RunRepository
from metafleet.db.repositories.run_deletion import delete_run
from tests.fleet import Fleet, wait_until
from tests.forks import Fork, run_metafleet
from tests.integration.orchestrator.cli.terminal import TINY
from tests.integration.orchestrator.conftest import Command
from tests.integration.orchestrator.service.servers import ServerProcess

LR = ("--over", "outer.lr=log:0.001..0.3")


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


def judged(home: Path) -> list[tuple[int, int]]:
    """Run id and episodes of every meta-test in a database."""
    with (
        Database.open(f"sqlite:///{home}/metafleet.db") as database,
        database.session(read_only=True) as session,
    ):
        runs = RunRepository(session).list(limit=None)
        evaluations = EvaluationRepository(session)
        return [(r.id, e.episodes) for r in runs for e in evaluations.list(r.id, split="meta_test")]


def ended(home: Path) -> int:
    with (
        Database.open(f"sqlite:///{home}/metafleet.db") as database,
        database.session(read_only=True) as session,
    ):
        return sum(r.status.is_final for r in RunRepository(session).list(limit=None))


def test_only_the_best_configuration_is_tested_and_once(
    home: Path, command: Command, file: str
) -> None:
    grid = ("sweep", file, "--over", "outer.lr=0.0001,0.01,0.1", "--in-process")
    status, out, error = command(*grid)

    assert status == 0 and "sweep tiny-sweep: 3 trials (grid)" in error
    rows = [line.split() for line in out.splitlines()[3:6]]
    losses = [float(row[3]) for row in rows]
    assert losses == sorted(losses) and {row[2] for row in rows} == {"0.0001", "0.01", "0.1"}
    best = int(rows[0][1])
    assert f"best of 3 configurations by meta_val: trial {rows[0][0]}" in out
    assert judged(home) == [(best, 4)]
    assert f"runs clone {best} --set test.episodes=4 --seeds 1,2,3" in out
    document = json.loads(command(*grid, "--json")[1])
    assert judged(home) == [(best, 4)] and ended(home) == 3
    assert document["best"]["run"] == best and document["meta_test"]["episodes"] == 4
    listed = command("runs", "list", "--where", "tags=sweep:tiny-sweep", "--columns", "id,name")[1]
    assert listed.count("tiny-sweep") == 3


def test_more_trials_are_added_and_other_options_are_refused(
    home: Path, command: Command, file: str
) -> None:
    sweep = ("sweep", file, *LR, "--in-process")
    assert command(*sweep, "--trials", "2")[0] == 0
    first = json.loads(command(*sweep, "--trials", "2", "--json")[1])
    more = json.loads(command(*sweep, "--trials", "3", "--json")[1])

    assert more["trials"][:2] == first["trials"] and len(more["trials"]) == 3
    for others, said in (
        (("--seed", "1"), "was begun with --seed '0', not '1'"),
        (("--sampler", "tpe"), "was begun with --sampler 'random', not 'tpe'"),
        (("--over", "learner.inner_steps=1,2"), "was begun with --over 'outer.lr=log:0.001..0.3'"),
        (("--set", "outer.steps=9"), "was begun with outer.steps=6, not 9"),
        (("--set", "data.noise_std=0.5"), "was begun with data.noise_std=None, not 0.5"),
    ):
        status, out, error = command(*sweep, "--trials", "3", *others)
        assert status == 1 and out == "" and said in error and error.count("\n") == 1
    assert ended(home) == 3


def test_a_deleted_trial_is_tried_again(home: Path, command: Command, file: str) -> None:
    grid = ("sweep", file, "--over", "outer.lr=0.0001,0.01,0.1", "--in-process", "--json")
    first = json.loads(command(*grid)[1])
    deleted = first["trials"][0]["run"]
    assert command("runs", "delete", str(deleted), "--yes")[0] == 0

    status, out, _ = command(*grid)
    assert status == 0
    assert [one["values"] for one in json.loads(out)["trials"]] == [
        one["values"] for one in first["trials"]
    ]
    assert ended(home) == 3


def test_a_trial_that_diverges_does_not_end_the_sweep(
    home: Path, command: Command, file: str
) -> None:
    status, out, error = command(
        *("sweep", file, "--over", "learner.inner_lr=1e30,0.01", "--in-process")
    )

    assert status == 0 and "run 1 failed, and the sweep goes on" in error
    assert "failed" in out and "best of 2 configurations (1 failed) by meta_val: trial 1" in out
    status, out, error = command(
        *("sweep", file, "--over", "learner.inner_lr=1e30,1e29", "--in-process", "--name", "x")
    )
    assert status == 1 and "none of the 2 trials of sweep 'x' has finished" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--over", "outer.lrs=1,2"),
            "no configuration of the space is valid, for example outer.lrs=",
        ),
        (("--over", "outer.lr=1,2", "--set", "validation.every=0"), "validation.every=0"),
        (("--over", "outer.lr=1..2", "--sampler", "grid"), "--sampler grid needs values"),
        (("--over", "outer.lr=1,2", "--parallel", "2"), "--parallel leaves trials to servers"),
        (("--over", "outer.lr=1,2", "--name", "x" * 60), "--name has 60 characters"),
        (("--over", "episodes.k_shot=1,2"), "would change the meta-validation"),
        (("--over", "learner.inner_steps=-9..-2"), "no configuration of the space is valid"),
        (("--over", "outer.lr=1,2", "--name", "latest"), "choose another name"),
    ],
)
def test_a_wrong_sweep_is_refused_in_one_line(
    home: Path, command: Command, file: str, arguments: tuple[str, ...], said: str
) -> None:
    status, out, error = command("sweep", file, *arguments, "--in-process")

    last = error.splitlines()[-1]
    assert status != 0 and out == "" and last.startswith("error: ") and said in last
    assert not (home / "metafleet.db").exists() or ended(home) == 0


def test_a_sweep_killed_at_random_goes_on_to_the_same_trials(
    home: Path, command: Command, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["sweep", file, *LR, "--over", "learner.inner_steps=1,2", "--sampler", "tpe"]
    words += ["--trials", "11", "--in-process"]
    quiet = tmp_path / "undisturbed"
    monkeypatch.setenv("METAFLEET_HOME", str(quiet))
    expected = json.loads(command(*words, "--json")[1])
    monkeypatch.setenv("METAFLEET_HOME", str(home))
    environment = child_environment(Settings.load())
    draw = random.Random(5)
    for at_least in (1, 4, 9):
        process = Fork(run_metafleet, words, environment=environment, log=tmp_path / "log")
        wait_until(
            lambda n=at_least: (home / "metafleet.db").exists() and ended(home) >= n,
            f"{at_least} ended trials",
            60,
        )
        wait_until(lambda: draw.random() < 0.2, "a moment", 10)
        process.kill()
        process.wait(10)

    found = json.loads(command(*words, "--json")[1])
    assert without_times(found) == without_times(expected)
    assert checkpoints(home) == checkpoints(quiet)


def test_a_refused_configuration_is_recorded_and_the_sweep_goes_on(
    home: Path, command: Command, file: str
) -> None:
    grid = ("sweep", file, "--over", "learner.name=protonet,maml", "--over", "outer.lr=0.01,0.02")
    status, out, error = command(*grid, "--in-process")

    reason = "learner 'protonet' has no option 'inner_lr'"
    assert status == 0 and f"trial 0 is refused, and the sweep goes on: {reason}" in error
    assert "best of 4 configurations (2 refused) by meta_val" in out and reason in out
    first = json.loads(command(*grid, "--in-process", "--json")[1])
    assert [one["status"] for one in first["trials"]] == ["refused"] * 2 + ["finished"] * 2
    assert first["trials"][0]["run"] is None and reason in first["trials"][0]["why"]
    assert ended(home) == 2 and json.loads(command(*grid, "--in-process", "--json")[1]) == first


def test_removing_the_tags_of_a_run_leaves_the_sweep_whole(
    home: Path, command: Command, file: str
) -> None:
    grid = ("sweep", file, "--over", "outer.lr=0.001,0.01", "--in-process", "--json")
    first = json.loads(command(*grid)[1])
    assert command("runs", "tag", "1", "--remove", "trial:0", "sweep:tiny-sweep")[0] == 0

    assert json.loads(command(*grid)[1]) == first and ended(home) == 2


def test_a_larger_sweep_says_what_it_tests(home: Path, command: Command, file: str) -> None:
    sweep = ("sweep", file, *LR, "--in-process", "--trials")
    assert "was tested before" not in command(*sweep, "1")[2]
    status, out, error = command(*sweep, "1")
    assert status == 0 and "trial 0 is still the best, and was tested before" in error
    n_trials = 1
    while "is better than trial 0, which was chosen and tested before" not in error:
        n_trials += 1
        assert n_trials < 20 and len(judged(home)) == 1
        status, out, error = command(*sweep, str(n_trials))
    assert len(judged(home)) == 2
    assert "meta_test was also computed for trial 0" in out
    assert "meta_test was also computed for trial 0" in command("sweeps", "show", "tiny-sweep")[1]


def test_a_list_is_exhausted_and_no_more(home: Path, command: Command, file: str) -> None:
    status, out, error = command(
        *("sweep", file, "--over", "outer.lr=0.1,0.01,0.001", "--trials", "9", "--in-process")
    )

    assert status == 0 and "the space has 3 configurations; each is tried once" in error
    assert "best of 3 configurations" in out and ended(home) == 3


def test_nested_choices_drop_keys_of_the_file(home: Path, command: Command, file: str) -> None:
    over = ["learner.name=maml,reptile,protonet"]
    over += [
        f"learner.{key} if learner.name=maml,reptile" for key in ("inner_lr=0.1", "inner_steps=1,2")
    ]
    words = [word for text in over for word in ("--over", text)]
    status, out, _ = command("sweep", file, *words, "--in-process", "--json")

    assert status == 0
    found = [(one["status"], one["values"]) for one in json.loads(out)["trials"]]
    assert [values for _, values in found][-1] == {"learner.name": "protonet"}
    assert [status for status, _ in found][:4] == ["finished"] * 4


def test_interrupted_sweeps_tell_how_to_go_on(
    home: Path, command: Command, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    words = ("sweep", file, *LR, "--trials", "2", "--in-process")
    with monkeypatch.context() as patched:
        patched.setattr("metafleet.orchestrator.cli.execution.execute_run", interrupt)
        status, _, error = command(*words)
    assert status == 130 and "runs resume" not in error
    (told,) = [line for line in error.splitlines() if "the same command continues" in line]
    again = shlex.split(told.partition("`")[2].rstrip("`"))
    assert again[0] == "metafleet" and sorted(again[1:]) == sorted(words)
    listed = command("sweeps", "list")[1]
    assert "interrupted" in listed
    assert command(*again[1:])[0] == 0 and "finished" in command("sweeps", "list")[1]


def test_a_sweep_is_cancelled_with_its_open_trials(home: Path, command: Command, file: str) -> None:
    assert command("sweep", file, *LR, "--trials", "1", "--in-process")[0] == 0
    status, _, error = command("sweeps", "cancel", "tiny-sweep")
    assert status == 1 and "is finished already" in error
    status, _, error = command("sweeps", "cancel", "tidy")
    assert status == 1 and "no sweep 'tidy'; the newest are: tiny-sweep" in error


PRUNED = ("--set", "outer.steps=12", "--set", "validation.every=2", "--prune", "median")


def test_bad_trials_are_pruned_and_the_same_after_a_kill(
    home: Path, command: Command, file: str
) -> None:
    words = ("sweep", file, *LR, *PRUNED, "--sampler", "tpe", "--trials", "12", "--in-process")
    status, out, error = command(*words)
    assert status == 0 and "pruned by" not in error and "is pruned after step" in error
    assert "pruned)" in out
    first = json.loads(command("sweeps", "show", "tiny-sweep", "--json")[1])
    pruned = [one for one in first["trials"] if one["status"] == "pruned"]
    assert 1 <= len(pruned) <= 7 and all("pruned after step" in one["why"] for one in pruned)
    listed = command("runs", "list", "--where", "status=cancelled", "--json")[1]
    assert len(json.loads(listed)) == len(pruned)
    # the run of a pruned trial was killed after the verdict and before its end
    at = pruned[0]["trial"]
    with (
        Database.open(f"sqlite:///{home}/metafleet.db") as database,
        database.session() as session,
    ):
        RunRepository(session).mark_status(pruned[0]["run"], RunStatus.INTERRUPTED)
        for one in first["trials"][at + 1 :]:
            delete_run(session, str(one["run"]))
    again = json.loads(command(*words, "--json")[1])
    shown = [(one["values"], one["status"], one["best"]) for one in again["trials"]]
    assert shown == [(one["values"], one["status"], one["best"]) for one in first["trials"]]


def test_the_file_describes_the_sweep_and_options_count_more(
    home: Path, command: Command, file: str
) -> None:
    with Path(file).open("a") as out:
        out.write(
            '[sweep]\nover = ["outer.lr=log:0.001..0.3", "learner.inner_steps=1,2"]\n'
            'trials = 3\nsampler = "random"\nseed = 4\n'
        )
    found = json.loads(command("sweep", file, "--in-process", "--json")[1])
    assert (found["sampler"], found["seed"], len(found["trials"])) == ("random", 4, 3)
    assert found["trials"][0]["values"].keys() == {"outer.lr", "learner.inner_steps"}
    words = ("--name", "other", "--over", "outer.lr=0.1,0.2", "--seed", "0", "--trials", "1")
    found = json.loads(command("sweep", file, *words, "--in-process", "--json")[1])
    assert (found["over"], found["seed"]) == (["outer.lr=0.1,0.2"], 0)
    assert command("submit", file, "--in-process")[0] == 0  # a run does not use it
    shown = json.loads(command("runs", "show", "latest", "--json")[1])
    assert "sweep" not in shown["config"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('over = ["outer.lr"]', "sweep.over: 'outer.lr' has no values"),
        ("over = 3", "sweep.over=3"),
        ('sampler = "annealing"', "sweep.sampler='annealing'; expected one of: grid, random"),
        ('prune = "always"', "sweep.prune='always'; expected one of"),
        ("trials = 0", "sweep.trials=0; expected an integer >= 1"),
        ("parallel = 0", "sweep.parallel=0; expected an integer >= 1"),
        ("seed = -1", "sweep.seed=-1; expected an integer >= 0"),
        ("trails = 3", "sweep.trails is not a known key; did you mean 'trials'?"),
        ("trials = 3", "nothing to search; expected --over KEY=VALUES"),
        ('over = ["seed=1,2"]', "would change the meta-validation"),
    ],
)
def test_a_wrong_section_is_refused_in_one_line(
    home: Path, command: Command, file: str, line: str, said: str
) -> None:
    with Path(file).open("a") as out:
        out.write(f"[sweep]\n{line}\n")
    status, printed, error = command("sweep", file, "--in-process")
    assert status == 1 and printed == "" and said in error and error.count("\n") == 1


def test_a_sweep_is_drawn_exported_and_its_keys_ranked(
    home: Path, command: Command, file: str, tmp_path: Path
) -> None:
    over = ("--over", "model.hidden=[8],[9]", "--over", "learner.name=maml,protonet")
    over += ("--over", "learner.inner_lr=0.01 if learner.name=maml")
    assert command("sweep", file, *LR, *over, "--trials", "9", "--in-process")[0] == 0
    shown = json.loads(command("sweeps", "show", "tiny-sweep", "--importance", "--json")[1])
    finished = [one for one in shown["trials"] if one["status"] == "finished"]
    assert len(finished) >= 4 and sum(shown["importance"].values()) == pytest.approx(1)
    assert "outer.lr" in command("sweeps", "show", "tiny-sweep", "--importance")[1]

    for kind in ("parallel", "contour"):
        picture = tmp_path / f"{kind}.png"
        words = ("sweeps", "draw", "tiny-sweep", "--kind", kind, "--output", str(picture))
        assert command(*words)[0] == 0
        assert picture.read_bytes().startswith(b"\x89PNG")
    status, _, error = command("sweeps", "draw", "tiny-sweep", "--output", "trials.zzz")
    assert status == 2 and "'trials.zzz'; expected a name that ends in .png" in error
    status, _, error = command("sweeps", "draw", "tiny-sweep", "--keys", "seed")
    assert status == 1 and "--keys 'seed' cannot be drawn" in error

    path = tmp_path / "study.db"
    assert command("sweeps", "export", "tiny-sweep", str(path))[0] == 0
    study = optuna.load_study(study_name="tiny-sweep", storage=f"sqlite:///{path}")
    assert len(study.trials) == 9 and study.best_value == pytest.approx(
        min(one["best"] for one in finished)
    )
    assert study.trials[finished[0]["trial"]].intermediate_values.keys() == {3, 6}
    for other in (path, home / "metafleet.db"):
        before = other.read_bytes()
        status, _, error = command("sweeps", "export", "tiny-sweep", str(other))
        assert status == 1 and "exists already" in error and error.count("\n") == 1
        assert other.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def without_times(document: dict[str, Any]) -> dict[str, Any]:
    test = {k: v for k, v in document["meta_test"].items() if k != "created_at"}
    return document | {"meta_test": test}


def checkpoints(home: Path) -> list[str | None]:
    with (
        Database.open(f"sqlite:///{home}/metafleet.db") as database,
        database.session(read_only=True) as session,
    ):
        return [run.checkpoint_sha256 for run in RunRepository(session).list(limit=None)]


def test_servers_execute_the_trials(
    standing_fleet: Fleet, command: Command, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = standing_fleet.settings
    here = json.loads(command("sweep", file, *LR, "--trials", "4", "--in-process", "--json")[1])
    for name, value in child_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("METAFLEET_DATABASE_URL", settings.database_url)
    server = ServerProcess(settings)
    try:
        words = ("sweep", file, *LR, "--trials", "4", "--parallel", "2", "--json")
        status, out, error = command(*words)
    finally:
        server.stop()

    assert status == 0, error
    found = json.loads(out)
    shown = [(one["values"], one["best"], one["status"]) for one in found["trials"]]
    assert shown == [(one["values"], one["best"], one["status"]) for one in here["trials"]]
    assert found["best"]["values"] == here["best"]["values"]
    assert found["meta_test"]["loss"] == here["meta_test"]["loss"]
    assert "trial 3 (run" in error
    with Database.open(settings.database_url) as database, database.session() as session:
        run = RunRepository(session).get(found["trials"][0]["run"])
        assert run.detached and run.status is RunStatus.FINISHED
