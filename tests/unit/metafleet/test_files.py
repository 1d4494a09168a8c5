"""Files that appear whole, and locks that end with their process."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from metafleet.files import PART, drafting, write_whole
from metafleet.locking import exclusive, exclusive_if_free, take_lock


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    with pytest.raises(KeyboardInterrupt), drafting(path) as draft:
        draft.write_bytes(b"half")
        assert draft.name.startswith(PART) and path.read_bytes() == b"old"
        raise KeyboardInterrupt

    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]
    write_whole(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_is_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "file", []
    fsync = os.fsync

    def noted(handle: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        seen.append(("folder" if is_folder else os.fstat(handle).st_size, path.exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    write_whole(path, b"whole")

    assert seen == [(5, False), ("folder", True)]


def test_a_file_is_written_into_a_folder_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refusing(path: Path, flags: int, *rest: int) -> int:
        if path == tmp_path:  # as for any user but root, who ignores modes
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", refusing)
    write_whole(tmp_path / "file", b"whole")

    assert (tmp_path / "file").read_bytes() == b"whole"


@pytest.mark.parametrize(("mode", "expected"), [(0o600, 0o600), (0o644, 0o644), (None, 0o640)])
def test_a_file_is_as_open_as_was_asked_whatever_the_umask(
    tmp_path: Path, mode: int | None, expected: int
) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", b"", mode=mode)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected


HOLDER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from metafleet.locking import take_lock
handle = take_lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_free_when_its_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError):
            take_lock(path, is_waiting=False)
        with exclusive_if_free(path) as is_held:
            assert not is_held
        holder.kill()

    with exclusive_if_free(path) as is_held:
        assert is_held


def test_one_at_a_time_holds_a_lock_that_is_deleted_after_use(tmp_path: Path) -> None:
    inside: list[int] = []
    seen: list[int] = []

    def enter(number: int) -> None:
        with exclusive(tmp_path / "lock", is_kept=False):
            inside.append(number)
            seen.append(len(inside))
            os.sched_yield()
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, range(200)))

    assert seen == [1] * 200
    assert list(tmp_path.iterdir()) == []
