import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from metafleet.data.importing.checking import Examination, examine
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reading import read_items
from metafleet.data.summary import no_progress

OTHER_SEED = 2
"""Any other than the default."""

Examine = Callable[..., Examination]


@pytest.fixture(name="examine")
def examine_folder(tmp_path: Path) -> Examine:
    """Look at a folder from its layout to its pixels."""

    def run(path: Path, **options: object) -> Examination:
        options = {"split_seed": OTHER_SEED} | options
        ask = FolderOptions(path=str(path), **options)  # type: ignore[arg-type]
        scratch = Path(tempfile.mkdtemp(dir=tmp_path))
        return examine(read_items(path, ask), ask, scratch=scratch, progress=no_progress)

    return run
