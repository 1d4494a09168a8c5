"""Finding, training, reading, comparing and exporting runs from Python."""

import csv
import json
import math
import resource
import statistics
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from safetensors.torch import load_file
from sqlalchemy import delete

import metafleet
from metafleet import Client, ConfigError
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RUNS
from metafleet.db.repositories import RunRepository
from metafleet.errors import MetafleetError, RunNotFoundError
from metafleet.orchestrator.cli.main import main
from metafleet.orchestrator.client.exporting import export_runs
from metafleet.orchestrator.client.run import Run
from metafleet.orchestrator.client.table import Table
from metafleet.orchestrator.config.experiment import ExperimentConfig
from tests.fleet import Fleet
from tests.paths import REPOSITORY
from tests.runs import SINUSOID, config, execute, new_run

SETTINGS = ("BROKER_URL", "BLOBS_URL", "DATABASE_URL", "DATA_DIR")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in SETTINGS:
        monkeypatch.delenv(f"METAFLEET_{name}", raising=False)
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "elsewhere"))
    return tmp_path / "home"


@pytest.fixture
def client(home: Path) -> Iterator[Client]:
    with Client(home=home) as client:
        yield client


@pytest.fixture
def runs(client: Client) -> list[Run]:
    """Two learning rates with two seeds each."""
    found = []
    for name, lr in (("slow", 0.0001), ("fast", 0.02)):
        overrides = {"outer.lr": lr}
        found += client.train(
            SINUSOID, overrides=overrides, seeds=[1, 2], name=name, in_process=True
        )
    return found


@pytest.fixture
def exporting(runs: list[Run], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to export the runs to; it is not there yet."""
    monkeypatch.setenv("METAFLEET_HOME", str(home))
    return tmp_path / "results"


def test_runs_are_trained_found_and_read(client: Client, runs: list[Run]) -> None:
    assert [run.status for run in runs] == ["finished"] * 4
    assert [(run.name, run.seed) for run in client.runs(where="outer.lr<0.01", sort="seed")] == [
        ("slow", 1),
        ("slow", 2),
    ]
    assert client.run("latest").uid == client.run(4).uid == client.run(runs[3].uid).uid
    run = runs[0]
    curve = run.curve()
    assert curve["step"] == list(range(1, 13)) and len(curve) == 12
    assert run.value("outer.lr") == run.config["outer"]["lr"] == 0.0001
    tests = [e for e in run.evaluations() if e["split"] == "meta_test"]
    (judged,) = [e for e in tests if e["label"] == "trained"]
    episodes = run.episodes(label="trained")
    assert episodes["episode"] == list(range(10)) and episodes["accuracy"] == [None] * 10
    assert statistics.fmean(episodes["loss"]) == pytest.approx(judged["loss"], rel=1e-12)
    assert judged["loss"] == run.value("test")
    assert len(run.episodes()) == 20  # the untrained learner as well
    assert curve.to_arrow().column("loss").to_pylist() == curve["loss"]
    with pytest.raises(KeyError, match="expected one of step, loss"):
        curve["steps"]
    assert run.value("error") is None
    with pytest.raises(ConfigError, match="no run has the key 'zz'"):
        run.value("zz")
    with pytest.raises(ConfigError, match=r"stream='zzz'; expected one of .*train"):
        run.jobs("zzz")
    with pytest.raises(ConfigError, match="label='q'; expected one of initialisation, "):
        run.episodes(label="q")
    for table in (run.episodes, run.modalities, run.inner_curve):
        with pytest.raises(ConfigError, match="split='meta_tets'; expected one of meta_test, "):
            table("meta_tets")


@pytest.mark.parametrize("target", ["nope:x", "jsonl:", "tensorboard:logs"])
def test_a_wrong_target_leaves_no_run(
    client: Client, home: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    (run,) = client.submit(SINUSOID)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setenv("METAFLEET_HOME", str(home))
    with pytest.raises(ConfigError, match=r"expected tensorboard:|pip install"):
        client.train(SINUSOID, in_process=True, track=[target])
    monkeypatch.setenv("METAFLEET_TRACK", target)
    assert main(["submit", str(REPOSITORY / "experiments/sinusoid-maml.toml"), "--in-process"]) == 1
    assert main(["runs", "resume", "1", "--in-process"]) == 1
    assert main(["serve"]) == 1
    assert [one.uid for one in client.runs()] == [run.uid]
    assert run.refresh().status == "queued"


def test_a_test_is_measured_after_each_inner_step(
    client: Client, runs: list[Run], standing_fleet: Fleet
) -> None:
    curve = runs[0].inner_curve()

    assert curve["inner_step"] == [0, 1, 2] and set(curve["episodes"]) == {10}
    assert curve["support_accuracy"] == [None] * 3
    assert curve["support_loss"] == sorted(curve["support_loss"], reverse=True)
    (judged,) = [
        e for e in runs[0].evaluations() if e["label"] == "trained" and e["split"] == "meta_test"
    ]
    assert (curve["query_loss"][-1], curve["query_loss_ci95"][-1]) == (
        judged["loss"],
        judged["loss_ci95"],
    )
    again = new_run(standing_fleet.settings, ExperimentConfig.from_json(runs[0].config))
    execute(standing_fleet.settings, again)
    with Client(home=standing_fleet.settings.home) as other:
        assert list(other.run(again.uid).inner_curve()) == list(curve)


def test_more_episodes_are_measured_after_each_inner_step_on_request(
    runs: list[Run], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(home))
    command = ["evaluate", str(runs[0].id), "--split", "meta_val", "--episodes", "30"]
    assert main([*command, "--in-process", "--inner-steps"]) == 0

    curve = runs[0].inner_curve("meta_val")
    assert curve["episodes"] == [30] * 3
    assert len(runs[0].inner_curve(None)) == 6
    capsys.readouterr()
    assert main(["runs", "show", str(runs[0].id), "--inner-steps"]) == 0
    shown = capsys.readouterr().out
    assert "inner steps" in shown and "after 2 (`--inner-steps`)" in shown
    step = curve["step"][0]
    assert f"meta_val: meta-trained, outer step {step}, 30 episodes" in shown
    assert f"{curve['query_loss'][1]:.4f}" in shown


def test_learned_inner_rates_are_kept_by_outer_step(
    client: Client, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    learner = {"name": "maml_plus_plus", "inner_lr": 0.05, "inner_steps": 3}
    (run,) = client.train(SINUSOID | {"learner": learner}, in_process=True)

    rates = run.inner_rates()

    assert sorted(set(rates["step"])) == [0, 4, 5, 8, 10, 12]  # checkpoints and validations
    layers = {row["layer"] for row in rates}
    assert len(rates) == 6 * len(layers) * 3 and len(layers) == 6
    first = [row["rate"] for row in rates if row["step"] == 0]
    assert first == pytest.approx([0.05] * len(first), rel=1e-6)
    state = load_file(next((home / "runs" / run.uid).glob("step-000000012.safetensors")))
    layer = rates["layer"][-1]
    (name,) = [n for n in state if n.startswith("state:") and n.endswith(f"rate.{layer}")]
    last = [r["rate"] for r in rates if (r["step"], r["layer"]) == (12, layer)]
    assert last == pytest.approx(state[name].tolist(), rel=1e-6) and last[0] != first[0]
    monkeypatch.setenv("METAFLEET_HOME", str(home))
    capsys.readouterr()
    assert main(["runs", "show", str(run.id), "--inner-steps"]) == 0
    shown = capsys.readouterr().out
    assert "at outer step 12, learned for 6 tensors and 3 inner steps" in shown
    assert f"{last[2]:.4g}" in shown


def test_fixed_inner_rates_have_no_rows(runs: list[Run]) -> None:
    assert len(runs[0].inner_rates()) == 0


def test_jobs_have_times_without_a_fleet(runs: list[Run]) -> None:
    jobs = runs[0].jobs("train", step=3)

    assert jobs["shard"] == [0, 1, 2, 3]
    assert_in_order(jobs)
    assert jobs["sent_at"] == sorted(jobs["sent_at"])
    assert timedelta(0) < datetime.now(UTC) - jobs["sent_at"][0] < timedelta(minutes=10)
    assert len(runs[0].attempts()) == 0


def test_jobs_of_a_fleet_are_sent_started_ended_and_counted(standing_fleet: Fleet) -> None:
    run = new_run(standing_fleet.settings, config())
    execute(standing_fleet.settings, run)

    with Client(home=standing_fleet.settings.home) as client:
        jobs = client.run(run.uid).jobs()

    assert len({job["worker"] for job in jobs}) == 2
    assert {job["stream"] for job in jobs} > {"train"}
    assert_in_order(jobs)


def assert_in_order(jobs: Table) -> None:
    """Check that each time of an attempt comes after the one before."""
    slack = timedelta(milliseconds=50)  # the orchestrator's estimate of Redis's clock
    for job in jobs:
        assert job["sent_at"] <= job["started_at"] <= job["ended_at"]
        assert job["ended_at"] <= job["counted_at"] + slack


def test_training_again_gives_the_same_bits(client: Client, runs: list[Run]) -> None:
    (again,) = client.train(runs[0].config, seeds=[1], in_process=True)

    assert again.value("checkpoint") == runs[0].value("checkpoint")
    assert again.curve()["loss"] == runs[0].curve()["loss"]


def test_groups_are_compared(client: Client, runs: list[Run]) -> None:
    found = client.compare("slow", "fast")

    (contrast,) = found.contrasts
    assert contrast.of_episodes is not None and contrast.of_episodes.n == 20
    assert contrast.of_seeds is not None and contrast.of_seeds.n == 2
    assert found.keys == {"outer.lr": (0.0001, 0.02)}


def test_tags_and_notes_are_kept(client: Client, runs: list[Run]) -> None:
    runs[1].tag("paper")
    runs[1].note("figure 2")

    assert [run.uid for run in client.runs(where="tags=paper and note~figure")] == [runs[1].uid]
    with pytest.raises(ConfigError, match="no tag given"):
        runs[1].tag()


def test_a_deleted_run_is_not_confused_with_the_next_one(client: Client, home: Path) -> None:
    (gone,) = client.submit(SINUSOID)
    url = Settings.load(given={"METAFLEET_HOME": str(home)}).database_url
    with Database.open(url) as database, database.session() as session:
        session.execute(delete(RUNS).where(RUNS.c.id == gone.id))
    (new,) = client.submit(SINUSOID)

    assert new.id == gone.id
    for use in (gone.curve, gone.evaluations, gone.episodes, gone.learned):
        with pytest.raises(RunNotFoundError):
            use()
    with pytest.raises(RunNotFoundError):
        gone.tag("paper")
    with pytest.raises(RunNotFoundError):
        gone.note("as expected")
    assert (new.value("tags"), new.value("note")) == ([], None)


@pytest.mark.parametrize("name", ["../elsewhere", "a b", ""])
def test_a_name_that_is_no_name_is_refused(client: Client, name: str) -> None:
    with pytest.raises(ConfigError, match="expected a letter"):
        client.submit(SINUSOID, name=name)
    assert client.runs() == []


def test_a_queued_run_is_waited_for(client: Client, home: Path) -> None:
    (run,) = client.submit(SINUSOID, overrides={"outer": {"steps": 2}}, priority=3)

    assert (run.status, run.value("priority"), run.value("outer.steps")) == ("queued", 3, 2)
    with pytest.raises(TimeoutError, match=r"is queued after 0 s.*metafleet serve"):
        run.wait(timeout_s=0)
    settings = replace(
        Settings.load({"METAFLEET_HOME": str(home)}), database_url=f"sqlite:///{home}/metafleet.db"
    )
    with client._database.session(read_only=True) as session:
        record = RunRepository(session).get(run.id)
    thread = threading.Thread(target=execute, args=(settings, record), kwargs={"in_process": True})
    thread.start()
    assert run.wait(timeout_s=60).status == "finished"
    thread.join()


def test_a_learned_model_adapts(client: Client) -> None:
    (run,) = client.train(
        "glyphs-protonet",
        overrides={
            "outer": {"steps": 1, "meta_batch_size": 1},
            "model.channels": 4,
            "validation.every": 0,
            "test": {"episodes": 2, "baselines": False},
        },
        in_process=True,
    )

    assert isinstance(run.learned(), metafleet.LearnedModel)


def test_what_is_wrong_is_refused_and_nothing_is_recorded(client: Client) -> None:
    with pytest.raises(ConfigError, match=r"outer\.lrs"):
        client.submit("sinusoid-maml", overrides={"outer.lrs": 1})
    with pytest.raises(ConfigError, match="no experiment 'sinusoid-mamml'"):
        client.train("sinusoid-mamml")
    with pytest.raises(ConfigError, match="stands for the newest run"):
        client.submit("sinusoid-maml", name="latest")
    with pytest.raises(ConfigError, match="seed"):
        client.submit("sinusoid-maml", seeds=[1, -1])
    with pytest.raises(RunNotFoundError):
        client.run()
    assert client.runs() == []


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ([5, 5], "names a seed twice"),
        ([], "is empty"),
        (3, r"expected one seed per run, such as \[1, 2, 3\]"),
        ("12", "expected one seed per run"),
        ([1.0], "expected whole numbers"),
        ([True], "expected whole numbers"),
    ],
)
def test_seeds_that_are_no_different_numbers_are_refused(
    client: Client, seeds: Any, said: str
) -> None:
    for use in (client.submit, client.train):
        with pytest.raises(ConfigError, match=said):
            use(SINUSOID, seeds=seeds)
    assert client.runs() == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"outer.lr": None}, r"outer\.lr=None is of type NoneType"),
        ({"outer.lr": math.inf}, r"outer\.lr=inf; expected a number > 0"),
        ({"learner.inner_lr": math.nan}, "inner_lr=nan; expected a finite number"),
        ({"description": "\ud800"}, "half a character"),
        ({"outer": {"steps": 2**70}}, r"outer\.steps is a whole number of 71 bits"),
        ({"data": {"name": Path("a")}}, r"data\.name=PosixPath"),
        ({1: 2}, "has the key 1, not a text"),
        (["outer.lr=1"], "expected a dict"),
    ],
)
def test_values_that_no_configuration_can_hold_are_refused(
    client: Client, overrides: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        client.submit(SINUSOID, overrides=overrides)
    assert "\n" not in str(raised.value)
    assert client.runs() == []


def test_values_from_python_arrive_as_they_are(client: Client) -> None:
    text = 'a "rocket" \U0001f680\n\x07'
    overrides = {"description": text, "model": {"hidden": (8, 8)}, "outer.lr": 1e-07}
    (run,) = client.submit(SINUSOID, overrides=overrides, seeds=range(7, 8))

    assert run.config["description"] == text and run.seed == 7
    assert (run.config["model"]["hidden"], run.config["outer"]["lr"]) == ([8, 8], 1e-07)
    with pytest.raises(ConfigError, match=r"outer=None is of type NoneType"):
        client.submit({**run.config, "outer": None})
    with pytest.raises(ConfigError, match="priority='high'"):
        client.submit(SINUSOID, priority="high")  # type: ignore[arg-type]


def test_servers_that_cannot_be_reached_are_told_in_one_line(home: Path) -> None:
    with pytest.raises(MetafleetError, match=r"postgresql://u:\*\*\*@.* is reachable") as database:
        Client(home=home, database_url="postgresql://u:secret@127.0.0.1:1/x")
    assert "\n" not in str(database.value) and "secret" not in str(database.value)
    with Client(home=home, broker_url="redis://127.0.0.1:1/0") as client:
        with pytest.raises(MetafleetError, match="cannot be reached") as broker:
            client.train(SINUSOID)
        assert "\n" not in str(broker.value)
        assert client.runs() == []


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_exported_rows_are_those_of_the_tables(
    client: Client, runs: list[Run], home: Path, tmp_path: Path, file_format: str
) -> None:
    runs[0].tag("paper", "v2")
    folder = tmp_path / "results"
    arguments = ["--where", "name=slow", "--output", str(folder), "--format", file_format]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAFLEET_HOME", str(home))
        assert main(["runs", "export", *arguments]) == 0

    def read(name: str) -> list[dict[str, object]]:
        path = folder / f"{name}.{file_format}"
        if file_format == "csv":
            with path.open(newline="") as file:
                return list(csv.DictReader(file))
        if file_format == "jsonl":
            return [json.loads(line) for line in path.read_text().splitlines()]
        return parquet.read_table(path).to_pylist()

    exported = {row["uid"]: row for row in read("runs")}
    assert exported.keys() == {runs[0].uid, runs[1].uid}
    row = exported[runs[0].uid]
    assert json.loads(str(row["config"])) == runs[0].config and row["tags"] == "paper v2"
    assert float(str(row["test"])) == runs[0].value("test")
    for name, table in (("steps", runs[1].curve()), ("episodes", runs[1].episodes(split=None))):
        rows = [row for row in read(name) if row["run"] == runs[1].uid]
        assert [float(str(row["loss"])) for row in rows] == table["loss"]
    assert len(read("evaluations")) == 2 * len(runs[0].evaluations())


def test_a_full_disk_leaves_the_earlier_files(
    runs: list[Run], exporting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = exporting
    assert main(["runs", "export", "1", "--output", str(folder)]) == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(ConfigError, match=r"cannot be written \(File too large\); make room"):
            export_runs(runs[:1], folder, "csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected runs, or --where FILTER"),
        (["1", "--where", "seed=1"], "expected runs, or --where FILTER"),
        (["--where", "seed=9"], "no run matches"),
        (["nowhere"], "no run 'nowhere'"),
    ],
)
def test_a_wrong_export_is_refused(
    exporting: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", "export", *arguments, "--output", str(exporting)]) != 0
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not exporting.exists()


def test_a_table_is_shown_in_a_notebook(client: Client, runs: list[Run]) -> None:
    shown = runs[0].curve()._repr_html_()

    assert shown.count("<tr>") == 13 and "<th>loss</th>" in shown
    assert runs[0].evaluations()._repr_html_().count("&lt;") == 0


def test_the_notebook_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(home))
    notebook = json.loads((REPOSITORY / "examples" / "runs.ipynb").read_text())
    names: dict[str, object] = {}

    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), names)
    assert names["episodes"] is not None
    with Client(home=home) as client:
        (tagged,) = client.runs(where="tags=paper")
        assert tagged.name == "lr-0.01"
