import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from metafleet.data.importing.checking import CheckedFolder, check_folder
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reading import read_items
from metafleet.data.summary import no_progress
from tests.folders import OTHER_SEED

Check = Callable[..., CheckedFolder]


@pytest.fixture(name="check")
def _check(tmp_path: Path) -> Check:
    """Look at a folder from its layout to its pixels."""

    def run(path: Path, **options: object) -> CheckedFolder:
        options = {"split_seed": OTHER_SEED} | options
        ask = FolderOptions(path=str(path), **options)  # type: ignore[arg-type]
        scratch = Path(tempfile.mkdtemp(dir=tmp_path))
        return check_folder(read_items(path, ask), ask, scratch=scratch, progress=no_progress)

    return run
