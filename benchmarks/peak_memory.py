"""Peak memory of one meta-gradient of conv4-64, by inner steps; one process per measurement.

    python -m benchmarks.peak_memory WHO STEPS

WHO is one of our strategies, or a peer. Prints the peak growth of the process in MB.
"""

import importlib
import subprocess
import sys

from benchmarks import peers
from benchmarks.meta_problems import MetaProblem, conv4
from metafleet.contracts.device import prepare_process
from metafleet.execution import make_execution

STEPS = (1, 50)


def growth_mb(who: str, inner_steps: int) -> float:
    """Measure in a separate process."""
    command = [sys.executable, "-m", "benchmarks.peak_memory", who, str(inner_steps)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def compute(who: str, problem: MetaProblem) -> None:
    """Compute one meta-gradient."""
    if who in peers.PEERS:
        peers.gradient(who, problem)
    else:
        make_execution(who, problem.learner).gradient(problem.state, problem.episodes)


def main() -> None:
    """Compute two episodes, to include memory that the first one does not release."""
    who, inner_steps = sys.argv[1], int(sys.argv[2])
    prepare_process("cpu")
    if who in peers.PEERS:
        importlib.import_module(who)
    problem = conv4(2, inner_steps=inner_steps)
    before = _status_mb("VmRSS:")
    compute(who, problem)
    print(max(0.0, _status_mb("VmHWM:") - before))


def _status_mb(field: str) -> float:
    # not ``getrusage``: its maximum includes the parent's memory before exec
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


if __name__ == "__main__":
    main()
