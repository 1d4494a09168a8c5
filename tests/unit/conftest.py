"""What unit tests share."""

from collections.abc import Iterator

import pytest
import torch

FEW_CODES = [
    *range(0x41, 0x5B),  # Latin
    *range(0x391, 0x3A2),  # Greek, half of it drawn like Latin
    *range(0x410, 0x420),  # Cyrillic
    *range(0x531, 0x541),  # Armenian
]


@pytest.fixture
def few_glyphs(monkeypatch):
    """Let the glyphs be a few letters, drawn in a moment."""
    candidates = "metafleet.data.sets.glyph_classes.candidates"
    monkeypatch.setattr(candidates, lambda faces, *, min_faces: FEW_CODES)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute small tensors faster, and leave the number of threads to other tests as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
