"""Whose arithmetic a run is resumed with."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from metafleet.errors import FingerprintError
from metafleet.orchestrator.runs import provenance
from metafleet.orchestrator.runs.provenance import OUTER, RunProvenance, outer_fingerprint


def origin(**recorded: str) -> RunProvenance:
    run: Any = SimpleNamespace(id=7, fingerprint=recorded)
    return RunProvenance(cast(Any, None), run)


def test_a_record_of_an_older_version_knows_of_fewer_keys_and_is_no_difference() -> None:
    outer = json.loads(outer_fingerprint())
    del outer["training"]
    old = origin(torch="2.13.0", **{OUTER: json.dumps(outer)})
    old.require_same_outer()
    old.require_same(json.dumps({"torch": "2.13.0", "package mine": "3f2a"}))
    origin().require_same_outer()


def test_the_code_of_the_outer_update_is_part_of_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = shutil.copytree(provenance._TRAINING, tmp_path / "training")
    (changed / "outer_loop.py").write_text("changed = True\n")
    run = origin(**{OUTER: outer_fingerprint()})

    monkeypatch.setattr(provenance, "_TRAINING", changed)

    with pytest.raises(FingerprintError, match="its training is"):
        run.require_same_outer()


@pytest.mark.parametrize("key", ["training", "code"])
def test_other_code_of_the_outer_update_is_refused(key: str) -> None:
    outer = json.loads(outer_fingerprint()) | {key: "0.1.0+other"}
    with pytest.raises(FingerprintError, match=rf"its {key} is .* but the run has 0\.1\.0\+other"):
        origin(**{OUTER: json.dumps(outer)}).require_same_outer()


def test_another_version_of_a_package_is_named_with_both_digests() -> None:
    begun = origin(**{"package mine": "3f2a", "torch": "2.13.0"})
    with pytest.raises(FingerprintError) as caught:
        begun.require_same(json.dumps({"package mine": "99ab"}))
    assert str(caught.value).startswith(
        "run 7 began with other arithmetic than this process has: package 'mine' is 99ab but the "
        "run has 3f2a; install the same 'mine'"
    )
    assert str(caught.value).endswith("give up the same bits with --relaxed")
