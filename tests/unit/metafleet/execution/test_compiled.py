"""Machine code gives the gradient of autograd, once compiled for all processes of a machine."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from metafleet.errors import ConfigError, NumericsError
from metafleet.execution import (
    Strategy,
    compiler,
    make_execution,
)
from metafleet.execution import (
    program_cache as machine_code,
)
from metafleet.execution.compiled import CompiledExecution
from metafleet.params import digest
from tests.paths import REPOSITORY
from tests.unit.metafleet.execution.compiled_case import case, compiled_gradient


@dataclass(frozen=True)
class Compiled:
    """A folder of programs, and what two processes made of it that began at once."""

    folder: Path
    said: list[dict[str, Any]]
    logs: list[str]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("compiled") / "programs"
    command = [sys.executable, "-m", "tests.unit.metafleet.execution.compiled_case", str(folder)]
    racing = [
        subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=600) for process in racing]
    assert [process.returncode for process in racing] == [0, 0], ended
    return Compiled(folder, [json.loads(out) for out, _ in ended], [err for _, err in ended])


def test_of_processes_that_begin_at_once_one_compiles_and_all_get_the_same_bits(
    compiled: Compiled,
) -> None:
    assert sum("compiling" in log for log in compiled.logs) == 1
    assert [path.suffix for path in compiled.folder.iterdir()] == [".so"]
    assert compiled.said[0] == compiled.said[1]
    assert digest(compiled_gradient(compiled.folder).grads) == compiled.said[0]["sha256"]


def test_one_program_serves_a_whole_chunk_and_a_shorter_one(compiled: Compiled) -> None:
    learner, state, episodes = case()

    found = compiled_gradient(compiled.folder)

    expected = make_execution("autograd", learner).gradient(state, episodes)
    assert found.grads.keys() == expected.grads.keys() == state.params.keys()
    for name, value in expected.grads.items():
        assert bool((value != 0).any()), name
        torch.testing.assert_close(found.grads[name], value, rtol=1e-9, atol=1e-12, msg=name)
    losses = [one.loss for one in expected.metrics]
    assert [one.loss for one in found.metrics] == pytest.approx(losses, rel=1e-12)
    assert len(list(compiled.folder.glob("*.so"))) == 1


@pytest.mark.parametrize("damage", ["truncated", "changed", "emptied"])
def test_a_damaged_program_is_compiled_again_and_not_run(
    damage: str,
    compiled: Compiled,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (whole,) = compiled.folder.glob("*.so")
    data = whole.read_bytes()
    broken = {"truncated": data[:-4096], "changed": data[:-1] + b"x", "emptied": b""}[damage]
    folder = tmp_path / "programs"
    folder.mkdir(mode=0o700)
    (folder / whole.name).write_bytes(broken)

    def compile_again(graph: Any, inputs: Any, place: Path) -> Path:
        return Path(shutil.copy(whole, place))

    monkeypatch.setattr(machine_code, "compile_graph", compile_again)
    found = compiled_gradient(folder)

    assert digest(found.grads) == compiled.said[0]["sha256"]
    assert [path.name for path in folder.iterdir()] == [whole.name]
    assert (folder / whole.name).read_bytes() == data
    assert f"{whole.name} is damaged; it is compiled again" in caplog.text


def test_a_folder_without_room_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine_code.tempfile, "TemporaryDirectory", full)

    with pytest.raises(ConfigError, match=r"No space left on device.*room on the disk") as caught:
        compiled_gradient(tmp_path / "programs")

    assert "\n" not in str(caught.value)


def test_a_value_that_is_not_finite_is_named_with_its_episode(compiled: Compiled) -> None:
    learner, state, episodes = case()
    episodes[1].query.inputs["x"].fill_(float("nan"))
    execution = make_execution(Strategy("compiled", chunk=2), learner, cache_dir=compiled.folder)

    with pytest.raises(NumericsError, match=r"^episode=5: query loss is nan"):
        execution.gradient(state, episodes, first=4)


def test_a_torch_that_loads_no_programs_is_one_clear_line(
    compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch._C._aoti, "AOTIModelContainerRunnerCpu")

    with pytest.raises(ConfigError, match=r"has no AOTIModelContainerRunnerCpu .* or 'vmap'"):
        compiled_gradient(compiled.folder)


def test_without_a_compiler_it_is_one_clear_line(tmp_path: Path) -> None:
    from torch._inductor import config  # noqa: PLC0415 - as the code under test does

    compiler.compiler_version.cache_clear()
    try:
        with (
            config.patch({"cpp.cxx": ("no-such-compiler",)}),
            pytest.raises(ConfigError, match=r"needs a C\+\+ compiler and found none"),
        ):
            compiled_gradient(tmp_path / "programs")
    finally:
        compiler.compiler_version.cache_clear()


@pytest.mark.slow("the compiler comes after torch is imported and the graph is written out")
def test_a_compiler_that_fails_is_one_clear_line(tmp_path: Path) -> None:
    broken = tmp_path / "g++"
    broken.write_text(
        '#!/bin/sh\ncase "$1" in --version|-v) exec g++ "$@";; esac\n'
        "echo 'No space left on device' >&2; exit 1\n"
    )
    broken.chmod(0o755)

    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.unit.metafleet.execution.compiled_case",
            str(tmp_path / "programs"),
        ],
        cwd=REPOSITORY,
        env=os.environ | {"CXX": str(broken)},
        capture_output=True,
        text=True,
        check=False,
    )

    last = answer.stderr.strip().splitlines()[-1]
    assert "execution='compiled': the compiler failed" in last, answer.stderr
    assert not list((tmp_path / "programs").glob("*.so"))


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()
    folder.chmod(0o777)

    with pytest.raises(ConfigError, match="can be written by others"):
        compiled_gradient(folder)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="cannot be used"):
        compiled_gradient(tmp_path / "file" / "programs")


def test_without_a_folder_nothing_is_compiled() -> None:
    learner, state, episodes = case()

    with pytest.raises(ConfigError, match="needs a folder for machine code"):
        make_execution("compiled", learner).gradient(state, episodes)


def test_operations_are_counted_without_compiling() -> None:
    learner, state, episodes = case()
    execution = CompiledExecution(Strategy("compiled"), learner, device="cpu", cache_dir=None)

    assert 50 < execution.count_operations(state, episodes) < 1000
