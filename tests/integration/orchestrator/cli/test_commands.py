"""The `metafleet` command as people run it: what it prints and for whom."""

import json
import subprocess
import sys
from pathlib import Path

from metafleet.contracts.settings import Settings
from metafleet.db.records import RunStatus
from tests.fleet import ROOT, Fleet
from tests.integration.orchestrator.cli.terminal import Terminal


def test_help_is_quick_because_nothing_heavy_is_imported(terminal: Terminal) -> None:
    code = "import sys; from metafleet.orchestrator.cli.main import main; main(['--help']); "
    code += "assert not {'torch', 'sqlalchemy', 'celery', 'rich', 'redis'} & set(sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_a_run_in_process_reports_json_alone_on_standard_output(terminal: Terminal) -> None:
    submit = ("submit", str(terminal.tiny), "--in-process", "--json", "--seeds", "1,2")
    done = terminal.run_process(*submit)

    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["seed"], second["seed"]) == (1, 2)
    assert first["status"] == "finished" and first["steps"] == 6
    assert len(first["checkpoint_sha256"]) == 64
    assert first["checkpoint_sha256"] != second["checkpoint_sha256"]
    assert {e["label"] for e in first["evaluations"]} >= {"trained", "initialisation"}
    assert "step 6/6" in done.stderr

    shown = json.loads(terminal.run("runs", "show", first["uid"], "--json").stdout)
    assert shown["status"] == "finished" and shown["config"]["outer"]["steps"] == 6
    assert sum(shown["workers"].values()) == shown["jobs"]["jobs"] > 0
    assert shown["checkpoint_sha256"] == first["checkpoint_sha256"]
    assert [step["step"] for step in shown["steps"]] == [1, 2, 3, 4, 5, 6]
    assert shown["package_versions"]["torch"]

    listed = json.loads(terminal.run("runs", "list", "--json").stdout)
    assert [run["id"] for run in listed] == [2, 1]


def test_the_report_the_views_and_the_curve_are_for_people(terminal: Terminal) -> None:
    done = terminal.run("submit", str(terminal.tiny), "--in-process", "--name", "mine")
    assert "run 1 (mine, seed 1) finished: 6 outer steps in" in done.stdout
    assert "meta-trained" in done.stdout and "without meta-training" in done.stdout

    shown = terminal.run("runs", "show", "mine").stdout
    assert "finished, 6 of 6 outer steps" in shown and "loss  " in shown
    assert "counted (0 of them a later attempt)" in shown and "failed" not in shown

    judged = terminal.run(
        "evaluate", "latest", "--split", "meta_val", "--episodes", "5", "--in-process", "--json"
    )
    assert json.loads(judged.stdout)["episodes"] == 5

    drawn = terminal.run("runs", "curve", "latest")
    assert Path(drawn.stdout.strip()).stat().st_size > 1000


def test_judging_as_training_did_leaves_the_best_validation_marked(terminal: Terminal) -> None:
    assert terminal.run("submit", str(terminal.tiny), "--in-process").returncode == 0
    before = json.loads(terminal.run("runs", "show", "latest", "--json").stdout)["evaluations"]
    assert any(e["is_best"] for e in before)

    split = ("--split", "meta_val", "--episodes", "4")
    assert terminal.run("evaluate", "latest", *split, "--in-process").returncode == 0

    after = json.loads(terminal.run("runs", "show", "latest", "--json").stdout)["evaluations"]
    assert [(e["step"], e["is_best"]) for e in after] == [(e["step"], e["is_best"]) for e in before]


def test_a_run_is_evaluated_on_its_own_and_on_other_episodes(terminal: Terminal) -> None:
    assert terminal.run("submit", str(terminal.tiny), "--in-process").returncode == 0
    command = ("evaluate", "latest", "--episodes", "5", "--in-process", "--json")
    changed = ("--set", "episodes.k_shot=3", "--set", "episodes.meta_test.n_query=2")

    own = json.loads(terminal.run(*command).stdout)
    other = json.loads(terminal.run(*command, *changed).stdout)

    assert own["label"] == "trained"
    assert other["label"] == "trained, k_shot=3, meta_test.n_query=2"
    assert other["loss"] != own["loss"]
    same = json.loads(terminal.run(*command, "--set", "episodes.k_shot=5").stdout)
    assert same == own
    again = ("--set", "episodes.k_shot=5", *changed)
    assert json.loads(terminal.run(*command, *again).stdout) == other
    shown = json.loads(terminal.run("runs", "show", "latest", "--json").stdout)["evaluations"]
    assert {own["label"], other["label"]} <= {e["label"] for e in shown}
    refused = terminal.run(*command, "--set", "outer.lr=3")
    assert refused.returncode == 1
    assert "--set outer.lr would change what was learned" in refused.stderr


def test_baselines_are_judged_on_the_episodes_that_are_asked_for(terminal: Terminal) -> None:
    assert terminal.run("submit", str(terminal.tiny), "--in-process").returncode == 0
    command = ("evaluate", "latest", "--episodes", "5", "--in-process", "--baselines")
    changed = (*command, "--set", "episodes.k_shot=3")

    own, other = (
        [json.loads(line) for line in terminal.run(*it, "--json").stdout.splitlines()]
        for it in (command, changed)
    )

    assert [(e["label"], e["step"] > 0) for e in own] == [
        ("trained", True),
        ("initialisation", False),
    ]
    assert [e["label"] for e in other] == ["trained, k_shot=3", "initialisation, k_shot=3"]
    assert len({e["loss"] for e in (*own, *other)}) == 4
    shown = terminal.run("runs", "show", "latest").stdout
    assert "without meta-training, k_shot=3" in shown and "meta-trained, k_shot=3" in shown


def test_a_learner_with_nothing_to_learn_is_refused_before_there_is_a_run(
    terminal: Terminal, few_glyphs: None
) -> None:
    raw = terminal.folder / "raw.toml"
    raw.write_text(
        'name = "raw"\nseed = 1\ndata = { name = "glyphs" }\nmodel = { name = "raw" }\n'
        'learner = { name = "nearest_prototype" }\n'
        "outer = { steps = 1, meta_batch_size = 2, lr = 1e-3 }\n"
        "episodes = { n_way = 2, k_shot = 1, n_query = 1 }\n"
    )

    line = terminal.fails("submit", str(raw), "--in-process")

    assert "learner 'nearest_prototype' with model 'raw' has nothing to learn" in line
    assert json.loads(terminal.run("runs", "list", "--json").stdout) == []


def test_a_reader_that_goes_away_costs_no_run_and_finished_runs_stay_as_they_are(
    terminal: Terminal,
) -> None:
    submit = f"submit {terminal.tiny} --in-process --seeds 1,2"
    command = f"{sys.executable} -m metafleet.orchestrator {submit}"
    done = subprocess.run(
        ["sh", "-c", f"{command} 2>&1 | head -1"],
        check=False,
        cwd=terminal.folder,
        env=terminal.environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("run 1 (tiny) begins") and done.stderr == ""

    runs = json.loads(terminal.run("runs", "list", "--json").stdout)
    assert [run["status"] for run in runs] == [RunStatus.FINISHED] * 2

    resumed = terminal.run("runs", "resume", "1", "--in-process")
    assert (resumed.returncode, resumed.stdout) == (0, "")
    assert resumed.stderr == "run 1 is finished; nothing to resume\n"
    assert json.loads(terminal.run("runs", "list", "--json").stdout) == runs


def test_workers_are_listed_and_the_doctor_is_content(
    terminal: Terminal, standing_fleet: Fleet
) -> None:
    settings: Settings = standing_fleet.settings
    terminal.environment |= {
        "METAFLEET_BROKER_URL": str(settings.broker_url),
        "METAFLEET_SIGNING_KEY": settings.signing_key,
    }

    workers = json.loads(terminal.run("workers", "--json").stdout)
    assert [w["name"] for w in workers] == ["cpu0@test", "cpu1@test"]
    assert all(w["is_alive"] and w["queues"] == ["inner.cpu"] for w in workers)
    assert "cpu0@test" in terminal.run("workers").stdout

    done = terminal.run("doctor", "--json")
    findings = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert sum(f["topic"] == "workers" and f["severity"] == "ok" for f in findings) == 2
