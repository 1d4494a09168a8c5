"""The blocks of a document, and how a test runs them in order.

A comment before a block says how it is treated: ``<!-- left out: REASON -->``, or
``<!-- file: PATH -->`` for a block that the reader is told to write to a file.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from metafleet.orchestrator.cli.main import main

_CLI = "metafleet.orchestrator"
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>left out|file): (?P<what>.+?) -->\n)?"
    r"^```(?P<language>sh|python|toml)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of commands, of Python or of a configuration.

    Attributes:
        language: "sh", "python" or "toml".
        text: what is between the fences.
        line: of the page, for messages.
        left_out: why it is not run; "" if it is.
        file: where the reader writes it; "" for blocks to run.
    """

    language: str
    text: str
    line: int
    left_out: str
    file: str


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in order."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        marks = {found["mark"]: found["what"]}
        yield Block(
            found["language"],
            found["text"],
            text[: found.start("text")].count("\n") + 1,
            marks.get("left out", ""),
            marks.get("file", ""),
        )


class Reader:
    """Does what a page says, in the current folder, over a fleet that is running already.

    Commands of ours run in this process; ``metafleet up`` is the fleet that runs. Commands that end
    in "&" run in the background until the reader is closed.

    Args:
        monkeypatch: takes back what is exported.
        more: first words of a command of ours -> further words, such as fewer steps.

    Attributes:
        submitted: the last run that was submitted, as words of the command; [] without one.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, more: Mapping[str, Sequence[str]]) -> None:
        self._monkeypatch = monkeypatch
        self._more = more
        self._names: dict[str, Any] = {"__name__": "page"}
        self._background: list[subprocess.Popen[bytes]] = []
        self.submitted: list[str] = []

    def read(self, page: Path) -> None:
        """Run every block of a page that is not left out."""
        run: dict[str, Callable[[Block, Path], None]] = {"sh": self._sh, "python": self._python}
        for block in blocks_of(page):
            if block.file:
                Path(block.file).parent.mkdir(parents=True, exist_ok=True)
                Path(block.file).write_text(block.text)
            elif not block.left_out and block.language in run:
                run[block.language](block, page)

    def close(self) -> None:
        """End the commands in the background."""
        for process in self._background:
            process.terminate()
        for process in self._background:
            process.wait(timeout=30)

    def _python(self, block: Block, page: Path) -> None:
        padding = "\n" * (block.line - 1)  # so that a traceback names the page's line
        exec(compile(padding + block.text, str(page), "exec"), self._names)

    def _sh(self, block: Block, page: Path) -> None:
        for number, line in enumerate(block.text.splitlines()):
            words = [
                os.path.expandvars(os.path.expanduser(word))
                for word in shlex.split(line, comments=True)
            ]
            if words:
                code = self._command(words)
                assert code == 0, f"{page}:{block.line + number}: {line!r} ended with {code}"

    def _command(self, words: list[str]) -> int:
        program, *rest = words
        if program == "export":
            for assignment in rest:
                self._export(*assignment.split("=", 1))
            return 0
        if program != "metafleet":
            return subprocess.run(words, check=False, timeout=120).returncode
        if rest[0] == "up":
            return 0
        if rest[-1] == "&":
            self._background.append(subprocess.Popen([sys.executable, "-m", _CLI, *rest[:-1]]))
            return 0
        rest += self._more.get(" ".join(rest[:2]), self._more.get(rest[0], ()))
        if rest[0] == "submit" and "--detach" not in rest:
            self.submitted = rest
        return main(rest)

    def _export(self, name: str, value: str) -> None:
        self._monkeypatch.setenv(name, value)
        if name == "PYTHONPATH":
            self._monkeypatch.syspath_prepend(value)
