import pytest

from metafleet.data.sets import glyph_classes

FEW_CODES = [
    *range(0x41, 0x5B),  # Latin
    *range(0x391, 0x3A2),  # Greek, half of it drawn like Latin
    *range(0x410, 0x420),  # Cyrillic
    *range(0x531, 0x541),  # Armenian
]


@pytest.fixture
def few_glyphs(monkeypatch):
    """Let the glyphs be a few letters, drawn in a moment."""
    monkeypatch.setattr(glyph_classes, "candidates", lambda faces, *, min_faces: FEW_CODES)
