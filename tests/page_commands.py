"""The commands of a page of documentation, as a test runs them."""

import os
import re
import shlex
from pathlib import Path


def page_commands(page: Path, *, folder: str, package: str) -> dict[str, list[str]]:
    """Return the commands that follow the exports for a package, by their first word.

    Args:
        page: the page; the first block of commands that begins with these exports is taken.
        folder: what PYTHONPATH is set to, below the repository.
        package: what may be imported.
    """
    exports = f"export PYTHONPATH=$PWD/{folder} METAFLEET_ALLOWED_PACKAGES={package}"
    block = re.search(
        rf"^```sh\n{re.escape(exports)}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    )
    assert block is not None, f"{page} has no block that begins with {exports!r}"
    lines = [shlex.split(line.removesuffix(" &")) for line in block[1].splitlines()]
    return {words[1]: [os.path.expanduser(word) for word in words[1:]] for words in lines}
