"""A model that was saved."""

from pathlib import Path

import pytest

from tests.unit.metafleet.inference.models import learned, support_of

CLASSES = {"cat": 2, "dog": 2, "eel": 2}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = learned("image")
    model.adapt_to(support_of(model), CLASSES).save(tmp_path / "model")
    return tmp_path / "model"
