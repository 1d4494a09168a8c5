"""The numbers of a checkpoint are under its digest, and it goes with one configuration alone."""

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from metafleet.errors import CheckpointError
from metafleet.orchestrator.training.checkpoint import Checkpoint, CheckpointFolder, read_checkpoint
from metafleet.orchestrator.training.checkpoint_header import TrainingProgress
from metafleet.params import MetaState

TERMS: dict[str, Any] = {
    "config": {"seed": 7, "outer": {"lr": 0.01, "steps": 60}, "learner": {"name": "maml"}},
    "data_digest": "d" * 64,
}


def make_checkpoint(step: int) -> Checkpoint:
    state = MetaState({"w": torch.tensor([float(step), 0.5])}, {})
    progress = TrainingProgress(step, best_step=5, best_score=-8.25, validations_since_best=1)
    return Checkpoint(progress, state, {"w.exp_avg": torch.ones(2)}, state)


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "k2run", TERMS)


@pytest.fixture
def newest(folder: CheckpointFolder) -> Path:
    """The second of two checkpoints, of steps 9 and 12."""
    folder.write(make_checkpoint(9))
    return folder.write(make_checkpoint(12)).path


def edit(path: Path, pattern: bytes, change: Callable[[bytes], bytes]) -> None:
    """Change what the second group of a pattern matches, without changing the length."""
    data = path.read_bytes()
    edited, n = re.subn(pattern, lambda m: m.group(1) + change(m.group(2)), data, count=1)
    assert n == 1 and edited != data and len(edited) == len(data)
    path.write_bytes(edited)


def flip(bit: int) -> Callable[[bytes], bytes]:
    return lambda byte: bytes([byte[0] ^ 1 << bit])


FLIPS = {
    "step": rb'(\\"step\\": 1)(\d)',
    "best_step": rb'(\\"best_step\\": )(\d)',
    "best_score": rb'(\\"best_score\\": -)(\d)',
    "patience": rb'(\\"validations_since_best\\": )(\d)',
    "unjudged": rb'(\\"is_unjudge)(d)',
    "seed": rb'(\\"seed\\": )(\d)',
    "learning rate": rb'(\\"lr\\": 0\.0)(\d)',
    "digest of the data": rb'(\\"data_digest\\": \\")(d)',
    "digest of the tensors": rb'("sha256":")(.)',
    "digest of the header": rb'("digest":")(.)',
    "format": rb"(metafleet-checkpoint-)(2)",
}


@pytest.mark.parametrize("what", FLIPS)
@pytest.mark.parametrize("bit", [0, 1])
def test_a_flipped_bit_is_refused_in_one_line_and_the_checkpoint_before_is_used(
    folder: CheckpointFolder, newest: Path, what: str, bit: int
) -> None:
    edit(newest, FLIPS[what], flip(bit))

    with pytest.raises(CheckpointError, match=re.escape(str(newest))) as caught:
        read_checkpoint(newest)
    assert "\n" not in str(caught.value)
    told: list[str] = []
    assert folder.read_newest(told.append)[0].progress.step == 9  # type: ignore[index]
    assert len(told) == 1 and told[0].endswith("going by step 9 instead")


def test_no_byte_of_a_header_can_change_without_notice(newest: Path) -> None:
    data, rng = newest.read_bytes(), random.Random(4)
    whole, stored = read_checkpoint(newest)
    n_header = 8 + int.from_bytes(data[:8], "little")
    refused = 0
    for at in range(n_header):
        newest.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
        try:
            found, found_stored = read_checkpoint(newest)
        except CheckpointError:
            refused += 1
        else:  # a blank where the format allows another
            assert found.progress == whole.progress and found_stored == stored
    assert refused > 0.95 * n_header


def test_a_header_that_claims_to_be_of_the_format_without_digest_is_refused(newest: Path) -> None:
    edit(newest, FLIPS["format"], lambda _: b"1")
    edit(newest, FLIPS["step"], flip(0))

    with pytest.raises(CheckpointError, match="does not hash to its digest"):
        read_checkpoint(newest)


def write_earlier_format(path: Path, checkpoint: Checkpoint, progress: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.clone() for name, tensor in checkpoint.tensors().items()}
    metadata = {"format": "metafleet-checkpoint-1", "progress": progress}
    save_file(tensors, path, metadata={**metadata, "sha256": checkpoint.sha256})


def test_a_checkpoint_of_the_earlier_format_is_gone_on_from_and_that_is_said(
    folder: CheckpointFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "k2run" / "step-000000012.safetensors"
    checkpoint = make_checkpoint(12)
    progress = {"step": 12, "best_step": 5, "best_score": -8.25, "validations_since_best": 1}
    write_earlier_format(path, checkpoint, json.dumps({**progress, "is_unjudged": False}))

    found, stored = folder.read_newest()  # type: ignore[misc]

    assert found.progress == checkpoint.progress and stored.sha256 == checkpoint.sha256
    assert f"{path} is of an earlier version" in caplog.text
    again = folder.write(found)
    assert again.sha256 == checkpoint.sha256
    assert read_checkpoint(again.path, TERMS)[1].terms == TERMS


@pytest.mark.parametrize(
    "progress",
    ['{"step": -1}', '{"step": "6"}', '{"step": 3, "best_step": 4}', "[1]", '{"step": true}'],
)
def test_impossible_numbers_of_the_earlier_format_are_refused(
    tmp_path: Path, progress: str
) -> None:
    path = tmp_path / "step-000000006.safetensors"
    write_earlier_format(path, make_checkpoint(6), progress)

    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(path)


def test_the_checkpoint_of_another_configuration_is_refused_by_the_key_that_differs(
    tmp_path: Path, newest: Path
) -> None:
    outer = {**TERMS["config"]["outer"], "lr": 0.02}
    other = CheckpointFolder(
        newest.parent, {**TERMS, "config": {**TERMS["config"], "outer": outer}}
    )

    with pytest.raises(CheckpointError, match=r"config.outer.lr=0.01, the run has 0.02"):
        other.read_newest()


def test_keys_that_another_version_added_or_removed_do_not_count(newest: Path) -> None:
    learner = {"name": "maml", "order": 1}
    terms = {"config": {"seed": 7, "learner": learner}, "calibration": {"episodes_per_job": 3}}

    assert CheckpointFolder(newest.parent, terms).read_newest()[0].progress.step == 12  # type: ignore[index]


def test_what_is_set_aside_is_kept_and_not_read(folder: CheckpointFolder, newest: Path) -> None:
    content = newest.read_bytes()

    assert folder.set_aside() == 2
    assert folder.read_newest() is None
    assert newest.with_name(f"set-aside-{newest.name}").read_bytes() == content
    folder.write(make_checkpoint(6))
    assert folder.read_newest()[0].progress.step == 6  # type: ignore[index]


def test_the_digest_of_a_state_does_not_depend_on_the_terms(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(3)
    stored = [
        CheckpointFolder(tmp_path / name, terms).write(checkpoint)
        for name, terms in (("a", TERMS), ("b", None))
    ]

    assert {entry.sha256 for entry in stored} == {checkpoint.sha256}
    assert all("state:params.w" in load_file(entry.path) for entry in stored)
    assert replace(checkpoint, progress=TrainingProgress(4)).sha256 == checkpoint.sha256
