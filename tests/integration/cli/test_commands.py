"""The `metafleet` command as people run it: processes, exit statuses, no tracebacks."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from contracts.settings import Settings
from db.records import RunStatus
from tests.fleet import ROOT, Fleet, wait_until
from tests.redis_server import RedisServer

TINY = """\
name = "tiny"
[data]
name = "sinusoid"
[episodes]
n_way = 0
k_shot = 5
n_query = 5
[model]
name = "mlp"
hidden = [8]
[learner]
name = "maml"
inner_lr = 0.01
inner_steps = 1
[outer]
steps = 6
meta_batch_size = 4
[validation]
every = 3
episodes = 4
[test]
episodes = 4
[engine]
episodes_per_job = 2
checkpoint_every = 2
"""


class Terminal:
    """Runs `metafleet` with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.tiny = folder / "tiny.toml"
        self.tiny.write_text(TINY)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("METAFLEET_")}
        self.environment = inherited | {
            "METAFLEET_HOME": str(self.home),
            "METAFLEET_DEVICE": "cpu",
            "PYTHONPATH": str(ROOT),
        }
        self.folder = folder

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=180)
        finally:
            process.kill()
        assert "Traceback" not in out + err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def fails(self, *arguments: str) -> str:
        """Run something that must fail with one line, and return the line."""
        done = self.run(*arguments)
        assert done.returncode == 1, done.stderr
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        return line

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                in_home = Path(process.cwd()).is_relative_to(self.home)
                if in_home or process.environ().get("METAFLEET_HOME") == str(self.home):
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    yield opened
    left = opened.processes()
    for process in left:
        process.kill()
    assert left == []


def test_help_is_quick_because_nothing_heavy_is_imported(terminal: Terminal) -> None:
    code = "import sys; from orchestrator.cli.main import main; main(['--help']); "
    code += "assert not {'torch', 'sqlalchemy', 'celery', 'rich', 'redis'} & set(sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_a_run_in_process_reports_json_alone_on_standard_output(terminal: Terminal) -> None:
    done = terminal.run("submit", str(terminal.tiny), "--in-process", "--json", "--seeds", "1,2")

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
    assert "(0 sent again)" in shown and "failed" not in shown

    judged = terminal.run(
        *("evaluate", "latest", "--split", "meta_val", "--episodes", "5", "--in-process", "--json")
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


def test_a_run_is_judged_on_other_episodes_than_its_own_beside_them(terminal: Terminal) -> None:
    assert terminal.run("submit", str(terminal.tiny), "--in-process").returncode == 0
    command = ("evaluate", "latest", "--episodes", "5", "--in-process", "--json")
    changed = ("--set", "episodes.k_shot=3", "--set", "episodes.meta_test.n_query=2")

    own = json.loads(terminal.run(*command).stdout)
    other = json.loads(terminal.run(*command, *changed).stdout)

    assert own["label"] == "trained"
    assert other["label"] == "trained, k_shot=3, meta_test.n_query=2"
    assert other["loss"] != own["loss"]
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


def test_what_has_nothing_to_learn_is_refused_before_there_is_a_run(terminal: Terminal) -> None:
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
    command = f"{sys.executable} -m orchestrator submit {terminal.tiny} --in-process --seeds 1,2"
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


def test_a_second_stack_is_refused_in_one_line(terminal: Terminal) -> None:
    up = terminal.start("up", "--workers", "0")
    try:
        wait_until((terminal.home / "stack.json").exists, "the stack file", 60)
        line = terminal.fails("up", "--workers", "0")
    finally:
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)

    assert line.startswith("error: an embedded stack runs already")


def test_ctrl_c_leaves_a_run_that_goes_on_to_the_same_bits(terminal: Terminal) -> None:
    tiny = (str(terminal.tiny), "--in-process", "--set", "outer.steps=400")
    process = terminal.start("submit", *tiny)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-2:] == [
        "run 1 can go on from its last checkpoint: `metafleet runs resume 1 --in-process`",
        "interrupted",
    ]
    (run,) = json.loads(terminal.run("runs", "list", "--json").stdout)
    assert run["status"] == RunStatus.INTERRUPTED

    resumed = terminal.run("runs", "resume", "1", "--in-process", "--json")
    undisturbed = terminal.run("submit", *tiny, "--json")
    assert (
        json.loads(resumed.stdout)["checkpoint_sha256"]
        == json.loads(undisturbed.stdout)["checkpoint_sha256"]
    )


def test_sigterm_ends_as_ctrl_c_does_with_its_own_status(terminal: Terminal) -> None:
    process = terminal.start(
        *("submit", str(terminal.tiny), "--in-process", "--set", "outer.steps=100000")
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            break
    process.terminate()
    _, err = process.communicate(timeout=60)

    assert process.returncode == 143
    assert "runs resume 1" in err
    (run,) = json.loads(terminal.run("runs", "list", "--json").stdout)
    assert run["status"] == RunStatus.INTERRUPTED


def test_no_redis_is_one_line_and_records_no_run(terminal: Terminal) -> None:
    line = terminal.fails("submit", str(terminal.tiny))

    assert line.startswith("error: no Redis is configured: start `metafleet up`")
    assert json.loads(terminal.run("runs", "list", "--json").stdout) == []


def test_a_wrong_redis_password_is_one_line_without_it(
    terminal: Terminal, redis_server: RedisServer
) -> None:
    terminal.environment["METAFLEET_BROKER_URL"] = (
        f"redis://:hushhush@127.0.0.1:{redis_server.port}/0"
    )

    line = terminal.fails("submit", str(terminal.tiny))

    assert line.endswith("check the password in its URL")
    assert "hushhush" not in line
    assert terminal.run("doctor").returncode == 1


def test_a_frozen_redis_is_one_line_in_bounded_time(
    terminal: Terminal, redis_server: RedisServer
) -> None:
    terminal.environment["METAFLEET_BROKER_URL"] = redis_server.url
    redis_server.freeze()
    started_s = time.monotonic()

    line = terminal.fails("workers")

    assert "does not answer" in line
    assert time.monotonic() - started_s < 60


def test_a_wrong_database_url_and_a_wrong_file_are_one_line(terminal: Terminal) -> None:
    assert "wrong.toml does not exist" in terminal.fails("submit", "wrong.toml", "--in-process")

    terminal.environment["METAFLEET_DATABASE_URL"] = "sqlite:////proc/none/metafleet.db"
    line = terminal.fails("submit", str(terminal.tiny), "--in-process")
    assert "/proc/none" in line


def test_missing_data_are_one_line_that_says_how_to_get_them(terminal: Terminal) -> None:
    line = terminal.fails("submit", "omniglot-protonet", "--in-process")

    assert "metafleet data prepare omniglot" in line


def test_a_reader_that_goes_away_is_no_error_message(terminal: Terminal) -> None:
    shell = f"{sys.executable} -m orchestrator --help | true"
    done = subprocess.run(
        ["sh", "-c", shell],
        check=False,
        cwd=ROOT,
        env=terminal.environment,
        capture_output=True,
        text=True,
    )

    assert done.stderr == ""


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


def test_up_serves_a_second_terminal_and_ctrl_c_leaves_nothing(terminal: Terminal) -> None:
    up = terminal.start("up", "--workers", "2")
    try:
        wait_until((terminal.home / "stack.json").exists, "the stack file", 60)
        done = terminal.run("submit", str(terminal.tiny), "--json")
        assert done.returncode == 0, done.stderr
        shown = json.loads(terminal.run("runs", "show", "latest", "--json").stdout)
        assert sum(shown["workers"].values()) > 0
    finally:
        up.send_signal(signal.SIGINT)
        out, err = up.communicate(timeout=60)

    assert up.returncode == 130
    assert "other terminals find this stack" in out
    assert err.split()[-2:] == ["stopped", "interrupted"]
    assert terminal.processes() == []
    assert not (terminal.home / "stack.json").exists()


def test_the_demo_ends_with_a_report_and_a_curve(terminal: Terminal) -> None:
    done = terminal.run(
        *("demo", "--steps", "4", "--set", "test.episodes=10", "--set", "validation.every=2"),
        *("--set", "validation.episodes=4", "--set", "episodes.meta_train.n_way=5"),
    )

    assert done.returncode == 0, done.stderr
    assert "by 2 worker processes" in done.stdout
    for judged in ("chance", "without meta-training", "nearest raw prototype", "meta-trained"):
        assert judged in done.stdout
    assert len(list(terminal.home.glob("runs/*/curve.png"))) == 1
    shown = json.loads(terminal.run("runs", "show", "demo", "--json").stdout)
    assert len(shown["workers"]) == 2
    assert terminal.processes() == []


def test_an_interrupted_demo_leaves_no_process_and_a_run_that_goes_on(terminal: Terminal) -> None:
    process = terminal.start("demo", "--set", "episodes.meta_train.n_way=5", "--steps", "40")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert "metafleet runs resume 1 --in-process" in err
    assert terminal.processes() == []
    (run,) = json.loads(terminal.run("runs", "list", "--json").stdout)
    assert run["status"] == RunStatus.INTERRUPTED
