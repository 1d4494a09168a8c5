"""The doctor says which encoders can be used, and what the others need."""

from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

from metafleet.encoders import runtime
from metafleet.encoders.registry import LOADERS, PACKAGED
from metafleet.errors import DataMissingError
from metafleet.orchestrator.doctor import encoders
from metafleet.orchestrator.doctor.finding import Severity


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Module names that are found; torchvision is built for another torch."""
    found = {"transformers", "timm", "open_clip", "torchvision", "tokenizers"}

    def import_module(name: str) -> Any:
        if name in ("torchvision", "timm"):
            raise RuntimeError("operator torchvision::nms does not exist")
        return ModuleType(name)

    spec = ModuleSpec("any", None)
    monkeypatch.setattr(encoders, "find_spec", lambda name: spec if name in found else None)
    monkeypatch.setattr(encoders.importlib, "import_module", import_module)
    return found


def test_a_torchvision_of_another_build_is_told_with_its_remedy(installed: set[str]) -> None:
    findings = encoders.check_encoders()

    (timm,) = [finding for finding in findings if finding.text.startswith("timm:")]
    assert timm.severity is Severity.WARN
    assert "operator torchvision::nms does not exist" in timm.text
    assert "one for CUDA next to a torch for the CPU" in timm.remedy
    with pytest.raises(DataMissingError, match="built for another torch than the installed one"):
        runtime.encoder_library("timm", encoder="timm:x", install="")


def test_what_is_not_installed_is_told_with_how_to(installed: set[str]) -> None:
    installed.remove("torchvision")

    findings = {f.text.partition(":")[0]: f for f in encoders.check_encoders()}

    assert "needs torchvision, not installed" in findings["open_clip"].text
    assert findings["st"].remedy == "for it run `pip install 'metafleet[st]'`"
    assert findings["st"].severity is Severity.OK
    assert "hf:" in findings["ready"].text
    assert "package:wordllama" in findings["ready"].text


def test_weights_without_their_library_are_not_ready(installed: set[str]) -> None:
    findings = {finding.text.partition(" ")[0]: finding for finding in encoders.check_encoders()}

    assert "package:minilm" not in findings["ready:"].text
    found = findings["package:minilm"]
    assert found.text == "package:minilm needs sentence_transformers, not installed"
    assert found.remedy == "for it run `pip install 'metafleet[text]'`"
    assert findings["package:speech-embedding"].remedy.endswith("'metafleet[speech]'`")


def test_every_loader_and_every_packaged_encoder_is_checked(installed: set[str]) -> None:
    told = " ".join(finding.text for finding in encoders.check_encoders())

    for name in (*(f"{each}:" for each in LOADERS), *(f"package:{each}" for each in PACKAGED)):
        assert name in told
