"""The command line's shape: helps, exit statuses, messages instead of tracebacks."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from metafleet.errors import DataError
from metafleet.inference.prediction import Prediction
from metafleet.inference.prediction_file import write_predictions
from metafleet.orchestrator.cli import main as program
from metafleet.orchestrator.cli.lazy_group import LazyGroup
from metafleet.orchestrator.cli.main import cli, main
from metafleet.orchestrator.reporting.output import program as program_name


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("BROKER_URL", "BLOBS_URL", "DATABASE_URL", "DATA_DIR"):
        monkeypatch.delenv(f"METAFLEET_{name}", raising=False)
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def commands(group: click.Group, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*prefix, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))


ALL_COMMANDS = list(commands(cli))


def resolve(path: tuple[str, ...]) -> click.Command:
    command: click.Command = cli
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return command


def test_the_promised_commands_are_there() -> None:
    names = {" ".join(path) for path in ALL_COMMANDS}

    assert names >= {
        "submit",
        "runs list",
        "runs show",
        "runs resume",
        "evaluate",
        "workers",
        "data list",
        "data prepare",
        "data inspect",
        "db upgrade",
        "doctor",
        "up",
        "demo",
    }


@pytest.mark.parametrize("path", ALL_COMMANDS, ids=" ".join)
def test_every_command_has_help_and_every_option_says_what_it_does(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    command = resolve(path)

    assert main([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Usage: metafleet" in shown
    assert "\\" not in shown and "\b" not in shown
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not isinstance(parameter.type, click.Choice):
            assert parameter.help or parameter.show_default, parameter.name


@pytest.mark.parametrize("path", ALL_COMMANDS, ids=" ".join)
def test_every_command_shows_examples_on_lines_of_their_own(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    command = resolve(path)

    if not isinstance(command, click.Group):
        _, _, examples = (command.help or "").partition("\b\n")
        assert f"metafleet {' '.join(path)}" in examples
        assert main([*path, "--help"]) == 0
        lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
        assert all(example.strip() in lines for example in examples.splitlines())


def test_a_lazy_group_says_what_its_commands_say() -> None:
    context = click.Context(cli)
    assert isinstance(cli, LazyGroup)

    for name, lazy in cli.commands_by_name.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert lazy.short_help.endswith(".")


def test_an_unknown_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runz"]) == 2

    error = capsys.readouterr().err
    assert error.startswith("error: No such command 'runz'")
    assert error.count("\n") == 1


def test_an_unknown_option_is_one_line_that_points_to_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["runs", "list", "--limt", "3"]) == 2

    error = capsys.readouterr().err
    assert error.startswith("error: No such option '--limt'") or "--limt" in error
    assert error.rstrip().endswith("see `metafleet runs list --help`")


def test_an_unknown_run_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", "absent"]) == 1

    assert capsys.readouterr().err == (
        "error: no run 'absent': there are no runs yet; start one with `metafleet submit`\n"
    )


def test_without_runs_the_list_says_how_to_start_and_json_is_empty(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["runs", "list"]) == 0
    assert "metafleet submit" in capsys.readouterr().out

    assert main(["runs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs", "list"),
        ("runs", "show", "1"),
        ("runs", "attach", "1"),
        ("runs", "curve", "1"),
        ("evaluate", "1", "--in-process"),
        ("chaos", "--run", "1"),
    ],
    ids=" ".join,
)
def test_a_command_that_reads_makes_no_database(
    arguments: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
) -> None:
    monkeypatch.setenv("METAFLEET_CHAOS", "1")
    assert main(arguments) == (0 if arguments[-1] == "list" else 1)
    captured = capsys.readouterr()
    assert "no runs yet" in captured.out + captured.err
    assert not home.exists()

    monkeypatch.setenv("METAFLEET_DATABASE_URL", f"sqlite:///{home}/elsewhere/x.db")
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: database {home}/elsewhere/x.db holds no runs; check")
    assert not home.exists()


def test_workers_without_redis_say_how_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workers"]) == 1

    assert capsys.readouterr().err == (
        "error: no Redis is configured: start `metafleet up` in another terminal, "
        "or set METAFLEET_BROKER_URL=redis://:password@host:6379/0\n"
    )


def test_the_database_tells_its_revision(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main(["db", "status"]) == 0
    assert "empty; made on first use" in capsys.readouterr().out

    assert main(["db", "upgrade", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_current"] is True
    assert (home / "metafleet.db").is_file()


def test_a_wrong_database_url_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAFLEET_DATABASE_URL", "mysql://someone:secret@host/name")

    assert main(["runs", "list"]) == 1

    error = capsys.readouterr().err
    assert error.startswith("error: database URL 'mysql://someone:***@host/name'")
    assert error.count("\n") == 1


def test_a_damaged_stack_file_is_one_line(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    home.mkdir()
    (home / "stack.json").write_text("{")

    assert main(["workers"]) == 1

    error = capsys.readouterr().err
    assert error.startswith(f"error: the stack file {home}/stack.json cannot be read")
    assert error.count("\n") == 1


def test_seeds_that_are_no_numbers_or_repeat_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["submit", "sinusoid-maml", "--seeds", "1,x", "--in-process"]) == 1
    assert "--seeds '1,x'" in capsys.readouterr().err

    assert main(["submit", "sinusoid-maml", "--seeds", "", "--in-process"]) == 1
    assert "--seeds ''" in capsys.readouterr().err

    assert main(["submit", "sinusoid-maml", "--seeds", "2,2", "--in-process"]) == 1
    assert "--seeds '2,2' names a seed twice" in capsys.readouterr().err

    assert main(["submit", "sinusoid-maml", "--seeds", "-1", "--in-process"]) == 1
    assert "--seeds: seed=-1; expected an integer >= 0" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "1st", "two words", "x" * 65, "line\n"])
def test_a_name_obeys_the_rule_of_the_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "sinusoid-maml", "--name", name, "--in-process"]) == 1

    error = capsys.readouterr().err
    assert error.startswith("error: --name='") and error.count("\n") == 1
    assert "; expected a letter, then up to 63 letters" in error


@pytest.mark.parametrize(
    "arguments",
    [("up", "--workers", "1"), ("submit", "sinusoid-maml", "--in-process")],
    ids=" ".join,
)
def test_a_home_that_cannot_be_written_is_one_line(
    arguments: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("METAFLEET_DATABASE_URL", f"sqlite:///{tmp_path}/x.db")

    assert main(arguments) == 1

    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith(
        f"error: the folder of logs {tmp_path}/file/logs cannot be written"
    ) or (error.startswith(f"error: the folder {tmp_path}/file cannot be written"))


def test_an_error_of_several_lines_is_marked_on_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "_run", _raising(DataError("first\nsecond")))

    assert main([]) == 1
    assert capsys.readouterr().err == "error: first\nerror: second\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_a_terminal_lacks_are_written_out(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    monkeypatch.setattr(sys, "stdout", terminal)

    def label(arguments: object) -> int:
        write_predictions([Prediction("a.png", "\u732b", 1.0, {"\u732b": 1.0})], None)
        return 0

    monkeypatch.setattr(program, "_run", label)

    assert main([]) == 0

    terminal.flush()
    written = terminal.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert written.splitlines()[1] == r"a.png,\u732b,1.0,,1.0"


def test_a_run_in_place_of_a_model_is_told_how_it_becomes_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["predict", "latest", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        "error: there is no model at latest; of a run, `metafleet adapt latest --support FOLDER "
        "--out MODEL` makes one\n".replace("`metafleet", f"`{program_name()}")
    )


def test_a_support_set_that_is_not_there_is_reported_before_the_run_is_looked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "nowhere")

    assert main(["adapt", "latest", "--support", nowhere, "--out", str(tmp_path / "m")]) == 1
    assert f"there is no folder or file {nowhere}; check the path" in capsys.readouterr().err


def test_a_bug_is_one_line_and_a_traceback_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(program, "_run", _raising(ZeroDivisionError("by\nzero")))

    assert main([]) == 70

    (report,) = home.glob("crash-*.log")
    error = capsys.readouterr().err
    assert error == (
        f"error: metafleet itself failed: ZeroDivisionError: by zero (traceback in {report}); "
        "please report it\n"
    )
    assert "Traceback" in report.read_text()


def test_an_interruption_shows_its_note_and_ends_with_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt = KeyboardInterrupt()
    interrupt.add_note("run 3 can go on")
    monkeypatch.setattr(program, "_run", _raising(interrupt))

    assert main([]) == 130
    assert capsys.readouterr().err == "run 3 can go on\ninterrupted\n"


def test_a_termination_ends_with_143(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_run", _raising(program.Terminated()))

    assert main([]) == 143


def _raising(error: BaseException) -> object:
    def run(arguments: object) -> int:
        raise error

    return run
