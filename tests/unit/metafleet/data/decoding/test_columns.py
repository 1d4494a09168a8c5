"""Whole columns, in this process and in several at once."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from metafleet.data.decoding import processes, row_file
from metafleet.data.decoding.columns import Column, decode_columns
from metafleet.data.decoding.processes import DecodingProcess
from metafleet.data.decoding.registry import DECODERS
from metafleet.data.decoding.source import FileBytes, read_source
from metafleet.errors import DataError, DecodeError
from tests.unit.metafleet.data.decoding.samples import png, tone, wav

RNG = np.random.default_rng(11)
N_ITEMS = 12


def make_columns(folder: Path) -> list[Column]:
    """Pictures in one file, each a part of it, with one broken; sounds at hand, with gaps."""
    parts, offset = [], 0
    with (folder / "shard").open("wb") as shard:
        for item in range(N_ITEMS):
            data = png(RNG.integers(0, 256, (9, 9, 3), np.uint8)) if item != 5 else b"broken"
            shard.write(data)
            parts.append(FileBytes(folder / "shard", offset, len(data)))
            offset += len(data)
    sounds = [wav(tone(300 + 90 * i, 0.1)) if i % 3 else None for i in range(N_ITEMS)]
    image, audio = DECODERS["image"].Options(side=8), DECODERS["audio"].Options(duration_s=0.1)
    return [Column("photo", "image", image, parts), Column("word", "audio", audio, sounds)]


@pytest.mark.parametrize("n_processes", [0, 2])
def test_rows_are_in_place_and_problems_are_named(tmp_path, n_processes):
    columns = make_columns(tmp_path)
    stages = []

    decoded = decode_columns(
        columns, tmp_path, progress=lambda *stage: stages.append(stage), n_processes=n_processes
    )

    for column in columns:
        for item, source in enumerate(column.sources):
            row = decoded.arrays[column.modality][item]
            is_there = source is not None and (column.modality, item) != ("photo", 5)
            assert decoded.masks[column.modality][item] == is_there
            expected = (
                column.decoder.decode(read_source(source), column.options) if is_there else 0 * row
            )
            np.testing.assert_array_equal(row, expected)
    assert [(p.modality, p.item) for p in decoded.problems] == [("photo", 5)]
    assert "no picture" in decoded.problems[0].why
    assert stages[-1] == ("decoding", 20, 20)


def test_a_process_that_dies_costs_its_item_alone():
    image = DECODERS["image"]
    options, good = image.Options(side=4), png(np.full((4, 4, 3), 9, np.uint8))
    with DecodingProcess() as process:
        assert process.decode(image, options, good) == bytes([9]) * 48
        os.kill(process._process.pid, signal.SIGKILL)

        with pytest.raises(DecodeError, match=r"ended the decoder's process \(signal 9\)"):
            process.decode(image, options, good)

        assert process.decode(image, options, good) == bytes([9]) * 48


def test_a_decoder_that_hangs_costs_its_item_alone(monkeypatch):
    monkeypatch.setattr(processes, "_PROGRAM", "tests.unit.metafleet.data.decoding.hanging_worker")
    image = DECODERS["image"]
    options, good = image.Options(side=4), png(np.full((4, 4, 3), 9, np.uint8))
    with DecodingProcess() as process:
        assert process.decode(image, options, good) == bytes([9]) * 48
        with monkeypatch.context() as hasty:
            hasty.setattr(processes, "ITEM_TIMEOUT_S", 0.2)

            with pytest.raises(DecodeError, match=r"decoding it hung: no result after 0\.2 s"):
                process.decode(image, options, b"hang")

        assert process.decode(image, options, good) == bytes([9]) * 48


def test_modules_of_the_working_directory_are_never_imported(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('a stranger ran')")
    monkeypatch.chdir(tmp_path)
    decoder = DECODERS["table"]

    with DecodingProcess() as process:
        row = process.decode(decoder, decoder.Options(width=2), b"1,2")

    assert np.frombuffer(row, np.float32).tolist() == [1.0, 2.0]


def test_a_full_disk_is_one_line_and_ends_it(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(row_file.os, "pwrite", refuse)
    for n_processes in (0, 2):
        with pytest.raises(DataError, match=r"cannot write .*No space left.*METAFLEET_DATA_DIR"):
            decode_columns(make_columns(tmp_path), tmp_path, n_processes=n_processes)


def test_a_disk_that_takes_a_row_in_parts_gets_it_whole(tmp_path, monkeypatch):
    whole = os.pwrite
    monkeypatch.setattr(row_file.os, "pwrite", lambda f, data, at: whole(f, data[:3], at))

    rows = row_file.RowFile(tmp_path / "rows.npy", np.dtype(np.uint8), (2, 10))
    rows.write(1, bytes(range(1, 11)))
    rows.close()

    assert rows.load()[1].tolist() == list(range(1, 11))


def test_a_reading_error_is_a_problem_of_its_item(tmp_path):
    (tmp_path / "short").write_bytes(b"abc")
    sources = [tmp_path / "gone", tmp_path]
    column = Column(
        "text",
        "text",
        DECODERS["text"].Options(),
        [*map(FileBytes, sources), FileBytes(tmp_path / "short", 2, 5), b"fine"],
    )

    decoded = decode_columns([column], tmp_path)

    assert [problem.item for problem in decoded.problems] == [0, 1, 2]
    assert "No such file" in decoded.problems[0].why
    assert "5 bytes are asked for; 1 are there" in decoded.problems[2].why
    assert decoded.masks["text"].tolist() == [False, False, False, True]
