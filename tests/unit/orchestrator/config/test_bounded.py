"""Input of any size and kind ends in one line, soon."""

import errno
import os
import threading
from pathlib import Path

import pytest

from metafleet.errors import ConfigError
from metafleet.orchestrator.cli.main import main
from metafleet.orchestrator.config.bounded import MAX_BYTES
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.config.source import parse_override, read_toml
from tests.fleet import ROOT
from tests.folders import class_folders

SINUSOID = ROOT / "experiments" / "sinusoid-maml.toml"
TOO_MUCH = {
    "deep lists": (b"a=" + b"[" * 5000 + b"]" * 5000, "nests too deep"),
    "deep tables": (b"a=" + b"{a=" * 5000 + b"1" + b"}" * 5000, "nests too deep"),
    "deep header": (b"[" + b".".join([b"a"] * 5000) + b"]", "key of 64 parts or more"),
    "dotted key": (b"\n\n" + b".".join([b"a"] * 50_000) + b"=1", "line 3 has a key of 64 parts"),
    "quoted key": (b" . ".join([b'"a"'] * 9000) + b"=1", "key of 64 parts or more"),
    "deep enough": (b"a=" + b"[" * 90 + b"]" * 90, "nests deeper than 64"),
    "long number": (b"a=" + b"1" * 5000, "no number"),
    "long hexadecimal": (b"a.b=0x" + b"f" * 5000, "a.b is a whole number of 20000 bits"),
    "long file": (b"#" * (MAX_BYTES + 1), f"more than {MAX_BYTES} bytes"),
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_too_much_of_anything_is_one_line(tmp_path: Path, what: str) -> None:
    content, message = TOO_MUCH[what]
    path = tmp_path / "a.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=message) as caught:
        read_toml(path)

    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_device_without_an_end_is_read_no_further_than_a_configuration_may_be() -> None:
    with pytest.raises(ConfigError, match="bytes and is no plain file"):
        read_toml(Path("/dev/zero"))


def test_a_configuration_may_come_through_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(SINUSOID.read_bytes(),))
    writer.start()

    assert read_toml(pipe) == read_toml(SINUSOID)
    writer.join()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("outer.steps=" + "9" * 5000, "--set outer.steps: .* no number"),
        ("outer.steps=" + "9" * 25, "--set outer.steps: .* 84 bits"),
        ("a=" + "[" * 5000, "--set a: it nests too deep"),
        (".".join("a" * 5000) + "=1", "a key of 5000 parts"),
    ],
)
def test_an_override_beyond_all_bounds_is_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_override(text)

    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        "outer.steps=10000000000000",
        "outer.meta_batch_size=100000000",
        "episodes.k_shot=99999999",
        "episodes.n_query=99999999",
        "test.episodes=10000000000000",
        "outer.weight_decay=1e308",
        "outer.warmup_steps=10000000000000",
        "engine.checkpoint_every=10000000000000",
    ],
)
def test_a_number_that_nothing_holds_is_refused_with_the_largest(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected (an integer|a number) .*<= "):
        ExperimentConfig.load(SINUSOID, [text])


@pytest.mark.parametrize(
    ("learner", "option"),
    [
        ("maml", "inner_steps"),
        ("reptile", "inner_steps_eval"),
        ("imaml", "cg_steps"),
        ("r2d2", "newton_steps"),
        ("matchingnet", "context_steps"),
    ],
)
def test_steps_within_an_episode_are_as_many_as_a_machine_computes(
    learner: str, option: str
) -> None:
    def asked(n_steps: int) -> ExperimentConfig:
        return ExperimentConfig.load(
            SINUSOID, [f"learner={{name='{learner}', {option}={n_steps}}}"]
        )

    assert asked(10**6).learner[option] == 10**6
    for n_steps in (10**6 + 1, 10**15):
        with pytest.raises(ConfigError, match=rf"{option}={n_steps}; expected 1000000 or fewer$"):
            asked(n_steps)


@pytest.mark.parametrize("channels", [100_000_000, 60_000])
def test_a_model_larger_than_the_memory_is_refused_before_it_is_made(
    channels: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path))
    asked = ["--in-process", "--set", f"model.channels={channels}"]

    assert main(["submit", str(ROOT / "experiments/glyphs-protonet.toml"), *asked]) == 1

    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: the model has ") and "GB of memory" in error


NOWHERE = ("", "a\0b", "x" * 5000)
"""What no system takes for a path."""
COMMANDS = (
    ("submit", "{}"),
    ("data", "import", "{}"),
    ("predict", "{}", "."),
    ("predict", ".", "{}"),
    ("predict", ".", ".", "--out", "{}"),
    ("adapt", "latest", "--support", "{}", "--out", "o"),
    ("adapt", "{}", "--support", ".", "--out", "o"),
    ("export", "latest", "--out", "{}"),
    ("export", "{}", "--out", "o"),
    ("runs", "curve", "latest", "--output", "{}"),
    ("data", "import", "d", "--problems", "{}"),
    ("data", "inspect", "glyphs", "--sheet", "{}"),
    ("runs", "show", "{}"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_path_that_cannot_be_is_one_line(
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "d", items=2)

    for place in NOWHERE:
        assert main([part.format(place) for part in command]) in (1, 2)
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        assert "metafleet itself failed" not in error
    assert not list(tmp_path.glob("crash-*"))


def test_a_run_is_not_called_what_is_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["runs", "show"], ["export", "--out", "o"], ["evaluate"]):
        assert main([*command, "\udcff"]) == 2
        assert "expected a name of up to" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ("runs", "curve", "latest", "--output", "{}/pipe.png"),
        ("data", "import", ".", "--problems", "{}/pipe.csv"),
        ("data", "inspect", "glyphs", "--sheet", "{}/pipe.csv"),
        ("predict", ".", ".", "--out", "{}/pipe.csv", "--force"),
    ],
    ids=" ".join,
)
def test_no_output_replaces_a_pipe_or_a_device(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipes = [tmp_path / "pipe.csv", tmp_path / "pipe.png"]
    for pipe in pipes:
        os.mkfifo(pipe)

    assert main([part.format(tmp_path) for part in command]) == 2

    assert "is no plain file" in capsys.readouterr().err
    assert all(pipe.is_fifo() for pipe in pipes)


@pytest.mark.parametrize("limit", ["0", "-1", "9" * 25, "nan", ""])
def test_a_limit_out_of_range_is_one_line(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list", "--limit", limit]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_refusals_of_the_machine_are_one_line_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path))
    refused = {
        "raise the limit of open files": OSError(errno.EMFILE, "Too many open files", "a.so"),
        "free space": OSError(errno.ENOSPC, "No space left on device"),
        "set TMPDIR": FileNotFoundError(errno.ENOENT, "No usable temporary directory found in []"),
        "not enough memory": MemoryError(),
    }
    for advice, error in refused.items():

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("metafleet.orchestrator.cli.main._run", fail)
        assert main(["doctor"]) == 1
        told = capsys.readouterr().err
        assert advice in told and told.count("\n") == 1
    monkeypatch.setattr("metafleet.orchestrator.cli.main._run", lambda *_: int("x"))
    assert main(["doctor"]) == 70
    assert "please report it" in capsys.readouterr().err
