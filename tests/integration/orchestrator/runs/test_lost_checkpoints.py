"""A run whose checkpoints are damaged or gone: what the message advises works."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from metafleet.contracts.settings import Settings
from metafleet.db.records import RunRecord
from metafleet.orchestrator.cli.main import main
from tests.runs import Watcher, assert_every_shard_once, config, execute, new_run, read_run

STEPS = 6
EXPERIMENT = config(
    outer={"steps": STEPS},
    validation={"every": 0},
    test={"baselines": False},
    engine={"checkpoint_every": 2},
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path))
    monkeypatch.delenv("METAFLEET_DATABASE_URL", raising=False)
    return Settings.load()


class StoppingWatcher(Watcher):
    def on_step(self, event: object) -> None:
        if len(self.steps) == 4:
            raise KeyboardInterrupt
        super().on_step(event)  # type: ignore[arg-type]


def stopped_run(settings: Settings) -> RunRecord:
    run = new_run(settings, EXPERIMENT)
    with pytest.raises(KeyboardInterrupt):
        execute(settings, run, in_process=True, watcher=StoppingWatcher())
    return run


def finished_run(settings: Settings) -> RunRecord:
    run = new_run(settings, EXPERIMENT)
    execute(settings, run, in_process=True)
    return run


def damage(folder: Path) -> None:
    for path in folder.glob("step-*"):
        path.write_bytes(path.read_bytes()[:-1])


def delete(folder: Path) -> None:
    for path in folder.glob("step-*"):
        path.unlink()


@pytest.mark.parametrize("loss", [damage, delete, shutil.rmtree])
@pytest.mark.parametrize(
    ("made", "command"),
    [
        (stopped_run, ("runs", "resume")),
        (stopped_run, ("evaluate",)),
        (finished_run, ("evaluate",)),
    ],
)
def test_a_run_without_checkpoints_goes_on_as_the_message_advises(
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
    made: Callable[[Settings], RunRecord],
    loss: Callable[[Path], None],
    command: tuple[str, ...],
) -> None:
    expected = execute(settings, new_run(settings, EXPERIMENT), in_process=True).checkpoint_sha256
    run = made(settings)
    loss(settings.runs_dir / run.uid)

    assert main([*command, str(run.id), "--in-process"]) == 1
    said = capsys.readouterr().err
    (advised,) = re.findall(r"`metafleet (runs resume [^`]+--from-start)`", said)
    assert main([*shlex.split(advised), "--in-process"]) == 0

    now = read_run(settings, run)
    assert (now.status.value, now.checkpoint_sha256) == ("finished", expected)
    assert_every_shard_once(settings, run, steps=STEPS, shards=4)
    if loss is damage:
        assert list((settings.runs_dir / run.uid).glob("set-aside-*"))
