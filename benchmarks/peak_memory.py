"""How much memory one meta-gradient of conv4-64 takes, by inner steps: a process for each number.

    python -m benchmarks.peak_memory WHO STEPS

WHO is a strategy of ours, or a peer. Prints MB that the process grew by, at its peak.
"""

import resource
import subprocess
import sys

from benchmarks import peers
from benchmarks.meta_problems import MetaProblem, conv4
from metafleet.device import prepare_process
from metafleet.execution import make_execution

STEPS = (1, 50)


def growth_mb(who: str, inner_steps: int) -> float:
    """Measure in a process of its own."""
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
    """Compute twice: memory that stays behind an episode counts as well."""
    who, inner_steps = sys.argv[1], int(sys.argv[2])
    prepare_process("cpu")
    # what is made once for each shape, and the peers' modules, are no growth
    compute(who, conv4(1, inner_steps=1))
    problem = conv4(2, inner_steps=inner_steps)
    before = _resident_mb()
    compute(who, problem)
    print(max(0.0, _peak_mb() - before))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
