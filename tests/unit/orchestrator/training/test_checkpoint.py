"""Checkpoints: whole or not there, checked when read, and bit for bit what was written."""

import errno
import itertools
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from metafleet.errors import CheckpointError
from metafleet.orchestrator.training.checkpoint import Checkpoint, CheckpointFolder, read_checkpoint
from metafleet.orchestrator.training.checkpoint_header import TrainingProgress
from metafleet.params import flatten_state
from tests.messages import make_state


def make_checkpoint(step: int, *, has_best: bool = True) -> Checkpoint:
    state = make_state(seed=step)
    moments = {f"layer.weight.{name}": torch.rand(3, 4) for name in ("exp_avg", "exp_avg_sq")}
    moments["layer.weight.step"] = torch.tensor(float(step))
    progress = TrainingProgress(
        step, best_step=step - 1, best_score=0.1 + 0.2, validations_since_best=2
    )
    best = make_state(seed=1000 + step) if has_best else None
    return Checkpoint(progress, state, moments, best)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "run-1"


@pytest.fixture
def folder(home: Path) -> CheckpointFolder:
    return CheckpointFolder(home)


def names(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir())


def test_reading_leaves_alone_what_the_owner_is_writing(
    folder: CheckpointFolder, home: Path
) -> None:
    folder.write(make_checkpoint(7))
    (home / ".part-of-the-owner").write_bytes(b"half")

    assert folder.read_newest() is not None
    assert ".part-of-the-owner" in names(home)
    folder.discard_torn()
    assert ".part-of-the-owner" not in names(home)


@pytest.mark.parametrize("has_best", [True, False])
def test_what_is_read_is_what_was_written_bit_for_bit(
    folder: CheckpointFolder, has_best: bool
) -> None:
    written = make_checkpoint(7, has_best=has_best)

    stored = folder.write(written)
    found = folder.read_newest()

    assert found is not None
    read, found_stored = found
    assert found_stored == stored
    assert stored.n_bytes == stored.path.stat().st_size
    assert read.progress == written.progress
    assert (read.best is None) is not has_best
    assert read.sha256 == written.sha256 == stored.sha256
    assert all(torch.equal(read.tensors()[name], t) for name, t in written.tensors().items())


def test_a_state_that_is_its_own_best_can_be_written(folder: CheckpointFolder) -> None:
    state = make_state()
    stored = folder.write(Checkpoint(TrainingProgress(1, 1, 0.5), state, {}, state))

    read, _ = read_checkpoint(stored.path)

    assert read.best is not None
    assert torch.equal(read.best.params["layer.bias"], state.params["layer.bias"])


def test_a_folder_that_is_not_there_has_no_checkpoint(folder: CheckpointFolder) -> None:
    assert folder.read_newest() is None


def test_the_newest_three_are_kept(folder: CheckpointFolder, home: Path) -> None:
    for step in (8, 9, 10, 11, 100):
        folder.write(make_checkpoint(step))

    assert names(home) == [f"step-{step:09d}.safetensors" for step in (10, 11, 100)]
    assert folder.read_newest()[0].progress.step == 100  # type: ignore[index]


def test_writing_a_step_again_replaces_it(folder: CheckpointFolder, home: Path) -> None:
    folder.write(replace(make_checkpoint(5), moments={}))
    stored = folder.write(make_checkpoint(5))

    assert names(home) == ["step-000000005.safetensors"]
    assert read_checkpoint(stored.path)[0].sha256 == stored.sha256


def test_the_digest_is_of_the_tensors_alone_and_of_every_one() -> None:
    checkpoint = make_checkpoint(3)
    digests = {checkpoint.sha256}

    assert replace(checkpoint, progress=TrainingProgress(4)).sha256 == checkpoint.sha256
    for changed in (
        replace(checkpoint, state=make_state(seed=4)),
        replace(checkpoint, best=None),
        replace(checkpoint, best=checkpoint.state),
        replace(checkpoint, moments={}),
        replace(checkpoint, moments=flatten_state(checkpoint.state)),
    ):
        digests.add(changed.sha256)
    assert len(digests) == 6


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond ``n_bytes``, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def failing(call: str, number: int) -> Iterator[None]:
    """Let ``os.<call>`` fail with an errno."""

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, fail)
        yield


@pytest.mark.parametrize(
    ("breakage", "reason"),
    [
        (lambda: largest_file(600), "File too large"),
        (lambda: largest_file(0), "File too large"),
        (lambda: failing("fsync", errno.ENOSPC), "No space left on device"),
        (lambda: failing("fsync", errno.EIO), "Input/output error"),
        (lambda: failing("replace", errno.EROFS), "Read-only file system"),
        (lambda: failing("open", errno.EMFILE), "Too many open files"),
    ],
)
def test_a_disk_that_refuses_costs_one_line_and_nothing_else(
    folder: CheckpointFolder,
    home: Path,
    breakage: Callable[[], Iterator[None]],
    reason: str,
) -> None:
    before = folder.write(make_checkpoint(5))

    with breakage(), pytest.raises(CheckpointError) as caught:  # type: ignore[attr-defined]
        folder.write(make_checkpoint(6))

    message = str(caught.value)
    assert f"({reason})" in message
    assert f"{home}/step-000000006.safetensors" in message
    assert "`metafleet runs resume run-1`" in message
    assert "\n" not in message
    assert names(home) == [before.path.name]
    assert folder.read_newest()[1] == before  # type: ignore[index]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_bytes(b"a file")

    with pytest.raises(CheckpointError, match=f"{tmp_path}/runs/run-1/step-0.* cannot be written"):
        CheckpointFolder(tmp_path / "runs" / "run-1").write(make_checkpoint(1))


def test_an_interrupt_while_writing_leaves_no_part(
    folder: CheckpointFolder, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder.write(make_checkpoint(5))

    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.write(make_checkpoint(6))

    assert names(home) == [before.path.name]


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_one_byte(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip_the_last_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def replace_by_foreign(path: Path) -> None:
    save_file({"state:params.a": torch.ones(2)}, path)


def replace_by_other_format(path: Path) -> None:
    tensors = load_file(path)
    save_file(tensors, path, metadata={"format": "metafleet-checkpoint-9", "progress": "{}"})


def lose_a_tensor(path: Path) -> None:
    rewrite(path, drop="state:params.layer.bias")


def lose_the_progress(path: Path) -> None:
    rewrite(path, progress="{")


def claim_an_unknown_progress(path: Path) -> None:
    rewrite(path, progress='{"step": 6, "mood": 1}')


def rewrite(path: Path, *, drop: str = "", progress: str = '{"step": 6}') -> None:
    sha256 = read_checkpoint(path)[1].sha256
    tensors = {name: tensor for name, tensor in load_file(path).items() if name != drop}
    metadata = {"format": "metafleet-checkpoint-1", "progress": progress, "sha256": sha256}
    save_file(tensors, path, metadata=metadata)


DAMAGES = [
    cut_in_half,
    cut_one_byte,
    empty,
    flip_the_last_bit,
    replace_by_foreign,
    replace_by_other_format,
    lose_a_tensor,
    lose_the_progress,
    claim_an_unknown_progress,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_gives_way_to_the_one_before(
    folder: CheckpointFolder, damage: Callable[[Path], None]
) -> None:
    before = folder.write(make_checkpoint(5))
    newest = folder.write(make_checkpoint(6))

    damage(newest.path)

    with pytest.raises(CheckpointError, match=str(newest.path)):
        read_checkpoint(newest.path)
    told: list[str] = []
    assert folder.read_newest(told.append)[1] == before  # type: ignore[index]
    (notice,) = told
    assert str(newest.path) in notice and notice.endswith("; going by step 5 instead")


def test_damage_everywhere_is_reported_file_by_file_with_the_remedy(
    folder: CheckpointFolder,
) -> None:
    stored = [folder.write(make_checkpoint(step)) for step in (5, 6)]
    for checkpoint, damage in zip(stored, itertools.cycle([empty, flip_the_last_bit])):
        damage(checkpoint.path)

    with pytest.raises(CheckpointError) as caught:
        folder.read_newest()

    message = str(caught.value)
    assert all(str(checkpoint.path) in message for checkpoint in stored)
    assert "`metafleet runs resume run-1 --from-start`" in message
    assert "\n" not in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="gone"):
        read_checkpoint(tmp_path / "gone.safetensors")


def test_a_folder_in_a_checkpoints_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(tmp_path)


@given(data=st.binary(max_size=300))
@settings(max_examples=40, deadline=None)
def test_random_bytes_are_refused_and_never_crash(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    path.write_bytes(data)

    with pytest.raises(CheckpointError):
        read_checkpoint(path)
