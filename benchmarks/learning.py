"""The cost of the learning core, compared with higher and TorchOpt in the same process.

    python -m benchmarks.learning [--only SECTION ...] [--tasks 2] [--repeats 7] [--json FILE]
    python -m benchmarks.learning --only sinusoid omniglot conv4 --device cuda --tasks 32

On a CPU, torch uses one thread; the precision is float32 unless a row says otherwise. Before any
timing, the gradients of all rows are compared in float64, where the adaptation does not amplify
rounding errors; a relative difference above 1e-5 ends the benchmark. "error" is the distance of a
row's float32 gradient from the float64 one. Rows run in turn; the output gives the median, minimum
and maximum. "peak" is a row's rate of multiplications and additions as a fraction of the rate in a
large matrix product.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.flop_counter import FlopCounterMode

from benchmarks import meta_problems, peers
from benchmarks.agreement import TOLERANCE, Gradient, checked, distance
from benchmarks.data_plane import machine
from benchmarks.meta_problems import MetaProblem
from benchmarks.peak_memory import STEPS, growth_mb
from benchmarks.round_robin import peak_gflops, spread_ms, time_in_turns
from benchmarks.sampling_rate import episodes_per_s
from metafleet.contracts.device import describe_device, prepare_process, resolve_device
from metafleet.errors import ConfigError
from metafleet.execution import Strategy, make_execution
from metafleet.learners.base import Learner

Table = dict[str, dict[str, float]]
BFLOAT16 = "autograd, bfloat16"
CPU_ONLY = ("variants", "memory", "sampling")


class Setting(NamedTuple):
    """Settings shared by all rows.

    Attributes:
        device: "cpu" or "cuda".
        repeats: timed turns.
        tasks: number of episodes at a time for convolutional networks.
        cache_dir: folder for machine code.
        peak: peak rate of the device, GFLOP/s.
    """

    device: str
    repeats: int
    tasks: int
    cache_dir: Path
    peak: float


def ours(setting: Setting, strategy: Strategy | str, learner: Learner) -> Gradient:
    """Return a function that computes a problem's gradient by one of our strategies."""
    execution = make_execution(
        strategy, learner, device=setting.device, cache_dir=setting.cache_dir
    )
    return lambda problem: execution.gradient(problem.state, problem.episodes).grads


def compare(
    setting: Setting, title: str, problem: MetaProblem, strategies: Mapping[str, Strategy | str]
) -> Table:
    """Check the gradients of our strategies and of the peers, then time them."""
    rows = {name: ours(setting, by, problem.learner) for name, by in strategies.items()}
    rows |= {peer: partial(peers.gradient, peer) for peer in peers.PEERS}
    problem = problem.to(device=setting.device)
    n_tasks = len(problem.episodes)
    exact = checked(problem, {n: row for n, row in rows.items() if n not in ("compiled", BFLOAT16)})
    works = {name: partial(row, problem) for name, row in rows.items()}
    errors = {name: distance(work(), exact) for name, work in works.items()}
    if "compiled" in errors and errors["compiled"] > TOLERANCE:
        sys.exit(f"compiled is {errors['compiled']:.1e} from float64; expected {TOLERANCE} at most")
    times = time_in_turns(works, repeats=setting.repeats, device=setting.device)
    table = {name: spread_ms(seconds, n_tasks) for name, seconds in times.items()}
    best = min(table[peer]["median_ms"] for peer in peers.PEERS)
    for name, row in table.items():
        row |= {"of_best_peer": best / row["median_ms"], "error": errors[name]}
        # the counter misses compiled products and overcounts weight gradients of grouped convs
        if name not in ("compiled", "vmap"):
            gflop = flops(works[name]) / n_tasks / 1e9
            row |= {"gflop": gflop, "peak": 1e3 * gflop / row["median_ms"] / setting.peak}
    show(f"{title}, {n_tasks} tasks", table)
    return table


def flops(work: Callable[[], object]) -> float:
    """Count the floating point operations of products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def show(title: str, table: Table) -> None:
    """Print a table."""
    print(f"\n{title}")
    for name, row in table.items():
        spread = f"{row['median_ms']:9.2f} ms  ({row['min_ms']:.2f} to {row['max_ms']:.2f})"
        others = {k: v for k, v in row.items() if not k.endswith("_ms")}
        print(f"  {name:22s}{spread:34s}", *(f"{k} {v:.3g}" for k, v in others.items()))


def sinusoid(setting: Setting) -> dict[str, Table]:
    """Measure an MLP of 40-40 with 25 tasks at a time, for 1 and 5 inner steps."""
    by = {name: name for name in ("autograd", "vmap", "compiled")}
    return {
        f"sinusoid, {steps} inner steps": compare(
            setting, f"sinusoid MLP 40-40, {steps} steps", meta_problems.sinusoid(25, steps), by
        )
        for steps in (1, 5)
    }


def omniglot(setting: Setting) -> dict[str, Table]:
    """Measure the workload that both peers use."""
    by = {"autograd": "autograd", BFLOAT16: Strategy("autograd", "bfloat16")}
    problem = meta_problems.omniglot(setting.tasks)
    return {"omniglot": compare(setting, "5-way 5-shot, 3 blocks of 64, 5 steps", problem, by)}


def conv4(setting: Setting) -> dict[str, Table]:
    """Measure conv4-64, 5-way 1-shot, by all strategies except "compiled", which takes minutes."""
    by = {name: name for name in ("autograd", "vmap", "constant_memory")}
    problem = meta_problems.conv4(setting.tasks)
    return {"conv4": compare(setting, "conv4-64, 5-way 1-shot, 5 steps", problem, by)}


def variants(setting: Setting) -> dict[str, Table]:
    """Measure first order and ANIL relative to our second order."""
    found = {}
    for n_query in (15, 5):
        problem = meta_problems.omniglot(setting.tasks, n_query=n_query)
        learners = {
            "second order": problem.learner,
            "first order": meta_problems.as_learner(problem, "maml", first_order=True),
            "ANIL": meta_problems.as_learner(problem, "anil"),
        }
        works = {
            name: partial(ours(setting, "autograd", learner), problem)
            for name, learner in learners.items()
        }
        times = time_in_turns(works, repeats=setting.repeats)
        table = {name: spread_ms(seconds, setting.tasks) for name, seconds in times.items()}
        for name, row in table.items():
            row["of_second_order"] = table["second order"]["median_ms"] / row["median_ms"]
            row["gflop"] = flops(works[name]) / setting.tasks / 1e9
        show(f"5-way 5-shot, {n_query} query images a class", table)
        found[f"variants, {n_query} query"] = table
    return found


def memory(setting: Setting) -> dict[str, Table]:
    """Measure memory and time of 50 inner steps."""
    few, many = STEPS
    table: Table = {}
    for who in ("constant_memory", "autograd", *peers.PEERS):
        mb = [growth_mb(who, steps) for steps in STEPS]
        table[who] = {f"mb_{few}_step": mb[0], f"mb_{many}_steps": mb[1], "growth": mb[1] / mb[0]}
    problem = meta_problems.conv4(1, inner_steps=many)
    works = {
        who: partial(ours(setting, who, problem.learner), problem)
        for who in ("constant_memory", "autograd")
    }
    times = time_in_turns(works, repeats=setting.repeats)
    plain_s = statistics.median(times["autograd"])
    for who, seconds in times.items():
        table[who] |= spread_ms(seconds, 1) | {"time": statistics.median(seconds) / plain_s}
    print(f"\nconv4-64, 5-way 1-shot: MB that a process grows by, {few} and {many} inner steps")
    for who, row in table.items():
        print(f"  {who:18s}", *(f"{k} {v:.4g}" for k, v in row.items()))
    return {"memory": table}


def sampling(setting: Setting) -> dict[str, Table]:
    """Measure the rate of drawing episodes."""
    table = episodes_per_s(repeats=setting.repeats)
    print("\nepisodes a second, 5-way 1-shot, 28x28, prepared glyphs")
    for name, row in table.items():
        print(f"  {name:14s} {row['median']:7.0f} ({row['min']:.0f} to {row['max']:.0f})")
    return {"sampling": table}


SECTIONS: dict[str, Callable[[Setting], dict[str, Table]]] = {
    section.__name__: section for section in (sinusoid, omniglot, conv4, variants, memory, sampling)
}


def main() -> None:
    """Measure, print, and write JSON on request."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    try:
        device = resolve_device(options.device)
    except ConfigError as error:
        sys.exit(f"nothing was measured: {error}")
    prepare_process(device)
    facts: dict[str, Any] = machine() | peers.versions() | {"device": describe_device(device)}
    facts["peak_gflops"] = peak_gflops(device)
    print("command:", "python -m benchmarks.learning", *sys.argv[1:])
    print("machine:", ", ".join(f"{key} {value}" for key, value in facts.items()))
    tables: dict[str, Table] = {}
    with tempfile.TemporaryDirectory() as home:
        setting = Setting(device, options.repeats, options.tasks, Path(home), facts["peak_gflops"])
        for name in options.only:
            if device == "cuda" and name in CPU_ONLY:
                print(f"\n{name}: measured on a CPU only")
                continue
            tables |= SECTIONS[name](setting)
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "tables": tables}, indent=2) + "\n")


if __name__ == "__main__":
    main()
