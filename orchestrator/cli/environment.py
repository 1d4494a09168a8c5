"""Explains in one line errors that the machine causes, such as a full disk. They are not bugs."""

import errno
from collections.abc import Mapping
from typing import Final

_ADVICE: Final[Mapping[int, str]] = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the machine has too many open files; close programs",
    errno.ENOSPC: "free space",
    errno.EDQUOT: "free space within the quota",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "a link leads to itself; delete it",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.ENOMEM: "free memory",
    errno.EAGAIN: "free processes or memory (ulimit -u)",
    errno.EIO: "the disk fails; look at it",
    errno.ENOTDIR: "a part of the path is no folder; check it",
    errno.EISDIR: "it is a folder; name a file",
    errno.EBUSY: "choose another place",
}
_NO_MEMORY: Final = ("can't allocate memory", "not enough memory", "out of memory")


def refusal(error: Exception) -> str:
    """Return what the system refused and what to do about it; "" for any other error."""
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(said in str(error) for said in _NO_MEMORY)
    ):
        return "there is not enough memory; free some, or make models and batches smaller"
    return ""


def _of_system(error: OSError) -> str:
    if error.errno == errno.ENOENT and "temporary directory" in str(error):
        return (
            "there is no writable temporary folder; expected one: free space in /tmp, or set TMPDIR"
        )
    if error.errno is None or error.errno not in _ADVICE:
        return ""
    place = "" if error.filename is None else f"{str(error.filename)!r:.300}: "
    return f"{place}{(error.strerror or str(error)).lower()}; {_ADVICE[error.errno]}"
