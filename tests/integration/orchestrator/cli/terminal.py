"""A terminal with a home of its own."""

import io
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import psutil

from metafleet.orchestrator.cli.main import main
from tests.fleet import ROOT

TINY = """\
name = "tiny"
[data]
name = "sinusoid"
[episodes]
n_way = 0
k_shot = 5
n_query = 5
[model]
name = "mlp"
hidden = [8]
[learner]
name = "maml"
inner_lr = 0.01
inner_steps = 1
[outer]
steps = 6
meta_batch_size = 4
[validation]
every = 3
episodes = 4
[test]
episodes = 4
[engine]
episodes_per_job = 2
checkpoint_every = 2
"""


class Terminal:
    """Runs `metafleet` with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.tiny = folder / "tiny.toml"
        self.tiny.write_text(TINY)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("METAFLEET_")}
        self.environment = inherited | {
            "METAFLEET_HOME": str(self.home),
            "METAFLEET_DEVICE": "cpu",
            "PYTHONPATH": str(ROOT),
        }
        self.folder = folder

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            # as the installed command, it does not look for modules in the folder it starts in
            [sys.executable, "-P", "-m", "metafleet.orchestrator", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command in this process, which saves the seconds that imports take."""
        out, err = io.StringIO(), io.StringIO()
        with (
            patch.dict(os.environ, self.environment, clear=True),
            chdir(self.folder),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            status = main(arguments)
        return self._completed(arguments, status, out.getvalue(), err.getvalue())

    def run_process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a process of its own, as people do."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=180)
        finally:
            process.kill()
        return self._completed(arguments, process.returncode, out, err)

    def _completed(
        self, arguments: tuple[str, ...], status: int, out: str, err: str
    ) -> subprocess.CompletedProcess[str]:
        assert "Traceback" not in out + err
        return subprocess.CompletedProcess(arguments, status, out, err)

    def fails(self, *arguments: str) -> str:
        """Run something that must fail with one line, and return the line."""
        done = self.run(*arguments)
        assert done.returncode == 1, done.stderr
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        return line

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                in_home = Path(process.cwd()).is_relative_to(self.home)
                if in_home or process.environ().get("METAFLEET_HOME") == str(self.home):
                    found.append(process)
            except psutil.Error:
                continue
        return found
