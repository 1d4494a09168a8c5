"""The bare learning core in separate processes: the throughput of the cores without an engine."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from metafleet.contracts.settings import Settings, child_environment

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import sys
from pathlib import Path
from benchmarks.engine import bare_step, maml_spec
from metafleet.contracts.settings import Settings
from metafleet.workload import Workload

settings = Settings.load({"METAFLEET_HOME": sys.argv[1]})
spec = maml_spec(settings)
step = bare_step(settings, spec, Workload.build(spec, data_dir=settings.data_dir).init_state())
for _ in sys.stdin:
    step()
    print(flush=True)
"""


@contextmanager
def bare_cores(settings: Settings, n_processes: int) -> Iterator[Callable[[], float]]:
    """Start processes; yield a step of all at once that returns the seconds until the last ends."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, str(settings.home)],
                    cwd=ROOT,
                    env=child_environment(settings),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(n_processes)
        ]

        def step() -> float:
            started_s = time.perf_counter()
            for process in processes:
                assert process.stdin is not None
                print(file=process.stdin, flush=True)
            for process in processes:
                assert process.stdout is not None
                if not process.stdout.readline():
                    raise RuntimeError(f"a bare core ended with {process.wait()}; see above")
            return time.perf_counter() - started_s

        yield step
