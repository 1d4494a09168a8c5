import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import metafleet
from metafleet.contracts.code_used import describe_code
from metafleet.contracts.fingerprint import (
    differences,
    explain,
    fingerprint,
    fingerprint_text,
    merged,
)
from metafleet.execution.strategy import Strategy
from metafleet.sources import disk_digest, folder_digest, imported_digest
from metafleet.workload_spec import WorkloadSpec

PRINT = "print(fingerprint_text()); "
PRELUDE = (
    "import torch; from metafleet.contracts.fingerprint import fingerprint_text; "
    "torch.set_num_threads(1); "
)


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


def test_a_key_that_only_one_side_has_is_no_difference() -> None:
    recorded = json.dumps({"torch": "2.13.0", "cpu": "AVX2"})
    now = json.dumps({"torch": "2.13.0", "cpu": "AVX2", "package mine": "3f2a", "compiler": "g++"})
    assert differences(recorded, now) == differences(now, recorded) == differences("", now) == {}
    assert json.loads(merged(recorded, now)) == json.loads(now)
    assert json.loads(merged("", now)) == json.loads(now)


def test_differences_are_explained_by_name_with_both_values_and_what_to_do() -> None:
    run = json.dumps({"package mine": "3f2a", "library scipy": "1.17.1", "cpu": "AVX2"})
    own = json.dumps({"package mine": "99ab", "library scipy": "1.17.1", "cpu": "AVX2"})
    assert explain(differences(run, own)) == (
        "package 'mine' is 99ab but the run has 3f2a; install the same 'mine' on every host, and "
        "restart what imported another"
    )
    assert explain({"library scipy": ("1.17.1", "1.16.0")}).endswith(
        "library 'scipy' is 1.16.0 but the run has 1.17.1; install the same version of scipy on "
        "every host"
    )
    assert "ONEDNN_MAX_CPU_ISA" in explain({"cpu": ("AVX2", "AVX512")})
    assert "same metafleet and torch" in explain({"code": ("0.1.0+1", "0.1.0+2")})


def test_a_text_that_is_no_fingerprint_differs_from_any() -> None:
    assert differences(fingerprint_text(), "an abacus") == {
        "fingerprint": (fingerprint_text(), "an abacus")
    }
    assert merged(fingerprint_text(), "an abacus") == fingerprint_text()


def test_a_package_changed_on_disk_after_its_import_is_to_be_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "changed_code.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    old = imported_digest("changed_code")
    (tmp_path / "changed_code.py").write_text("x = 2")
    text = explain({"package changed_code": (disk_digest("changed_code"), old)})
    assert text.endswith("changed on disk after this process imported it: restart this process")


def test_the_code_that_computes_shards_is_more_than_the_core() -> None:
    root = Path(metafleet.__file__).parent
    computing = folder_digest(root, without=("orchestrator", "db", "experiments"))
    core = folder_digest(
        root, without=("orchestrator", "db", "experiments", "contracts", "workers")
    )
    assert fingerprint()["code"].endswith(f"+{computing[:12]}")
    assert len({computing, core, folder_digest(root)}) == 3


def test_the_code_of_a_run_names_its_packages_and_what_built_in_learners_compute_with() -> None:
    plain = WorkloadSpec(
        0, {"name": "sinusoid"}, "", {}, {"name": "mlp"}, {"name": "maml"}, Strategy()
    )
    assert describe_code(plain) == {}
    encoders = {"image": {"name": "tests.own:Encoder"}}
    own = replace(plain, model={"name": "fusion", "encoders": encoders})
    assert describe_code(own)["package tests"] == imported_digest("tests")
    heads = replace(plain, learner={"name": "sklearn_head"})
    assert describe_code(heads).keys() == {
        "library scikit-learn",
        "library numpy",
        "library scipy",
    }
