import json
import os
import subprocess
import sys

import pytest
import torch

from metafleet.fingerprint import fingerprint, fingerprint_text

PRINT = "print(fingerprint_text()); "
PRELUDE = (
    "import torch; from metafleet.fingerprint import fingerprint_text; torch.set_num_threads(1); "
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def fingerprints_elsewhere(script: str, **environ: str) -> list[dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=os.environ | environ,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_another_process_of_the_same_kind_agrees_and_switches_that_change_bits_show() -> None:
    same, threads, deterministic, precision = fingerprints_elsewhere(
        PRINT
        + "torch.set_num_threads(2); "
        + PRINT
        + "torch.set_num_threads(1); torch.use_deterministic_algorithms(True); "
        + PRINT
        + "torch.set_float32_matmul_precision('medium'); "
        + PRINT
    )
    mine = fingerprint()
    assert same == mine
    assert (threads["threads"], mine["threads"]) == ("2", "1")
    assert deterministic["deterministic"] != mine["deterministic"]
    assert precision["precision"] != mine["precision"]


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="needs a CPU with AVX-512, to pin oneDNN and torch below it",
)
def test_a_lower_instruction_set_shows() -> None:
    (onednn,) = fingerprints_elsewhere(PRINT, ONEDNN_MAX_CPU_ISA="AVX2")
    (aten,) = fingerprints_elsewhere(PRINT, ATEN_CPU_CAPABILITY="avx2")
    mine = fingerprint()
    assert onednn["probe"] != mine["probe"]
    assert onednn | {"probe": mine["probe"]} == mine
    assert aten["cpu"] != mine["cpu"]


def test_it_names_torch_code_and_device() -> None:
    mine = fingerprint()
    assert mine["torch"] == torch.__version__
    assert mine["device"] == "cpu"
    assert len(mine["code"].rpartition("+")[2]) == 12


def test_the_text_is_one_line_of_sorted_json() -> None:
    text = fingerprint_text()
    assert "\n" not in text
    assert list(json.loads(text)) == sorted(fingerprint())
