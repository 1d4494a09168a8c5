"""Multimodal episodes per second, drawn from the prepared cache on one core.

    python -m benchmarks.sampling [--repeats 5] [--json FILE]

Episodes are 5-way 1-shot with 1 or 15 queries per class; torch uses one thread. "image, stroke" are
glyphs; "image, audio, text" are random items of the same shapes as concepts (pictures 3x32x32,
log-mel 40x74, 112 bytes), a third of them without sound. "features" are rows of numbers as
pretrained encoders give them: these episodes, with 5 queries per class, are drawn 250 at a time
(``sample_many``), and every query is given to its nearest prototype. Rows run in turn; the output
gives the median, minimum and maximum of CPU time, in which other work on the machine counts less.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from benchmarks.data_plane import machine
from benchmarks.round_robin import time_in_turns
from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.prepared import Array, ClassInfo
from metafleet.data.prepared.preparing import Content, find_or_prepare
from metafleet.data.registry import open_source
from metafleet.episode import META_TRAIN, EpisodeShape
from metafleet.episodes.classes import ClassEpisodeSource
from metafleet.episodes.many import prototype_scores
from metafleet.episodes.source import EpisodeSource
from metafleet.seeds import CounterRng

N_EPISODES = 500
TOGETHER = 250
N_FEATURES = (96, 256, 384, 512, 768)
N_QUERY = (1, 15)
N_CLASSES, N_ITEMS = 200, 20


def main() -> None:
    """Measure and print; write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home:
        rates = measure(Path(home), repeats=arguments.repeats)
    for name, rate in rates.items():
        print(f"{name:<32} {rate['median']:>8,.0f}/s ({rate['min']:,.0f} to {rate['max']:,.0f})")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "episodes_per_s": rates}))


def measure(home: Path, *, repeats: int) -> dict[str, dict[str, float]]:
    """Return row -> median, min and max of episodes per second."""
    glyphs = {"name": "glyphs", "modalities": ["image", "stroke"]}
    sources = {
        "image, stroke": open_source(glyphs, home),
        "image, audio, text": random_items(home),
    }
    works = {
        f"{name}, {n_query} query": drawing(source, EpisodeShape(5, 1, n_query))
        for name, source in sources.items()
        for n_query in N_QUERY
    }
    works |= {f"features of {n} numbers, 5 query": classifying(n, home) for n in N_FEATURES}
    times = time_in_turns(works, repeats=repeats, clock=time.process_time)
    rates = {name: [N_EPISODES / s for s in seconds] for name, seconds in times.items()}
    return {
        name: {"median": statistics.median(rate), "min": min(rate), "max": max(rate)}
        for name, rate in rates.items()
    }


def classifying(n_features: int, home: Path) -> Callable[[], object]:
    """Return a function that draws episodes of random features and compares them."""
    rng, n_rows = np.random.default_rng(1), N_CLASSES * N_ITEMS
    values = rng.normal(size=(n_rows, n_features)).astype(np.float32)
    source = prepared_source(home, f"features-{n_features}", {"value": values}, {})

    def classify() -> None:
        for start in range(0, N_EPISODES, TOGETHER):
            rngs = [CounterRng(1, META_TRAIN, 1, start + i) for i in range(TOGETHER)]
            episodes = source.sample_many(META_TRAIN, EpisodeShape(5, 1, 5), rngs)
            support, query = episodes.support["value"], episodes.query["value"]
            prototype_scores(support, query).argmax(dim=-1)

    return classify


def drawing(source: EpisodeSource, shape: EpisodeShape) -> Callable[[], object]:
    """Return a function that draws many episodes and, like a worker, discards each one."""

    def draw() -> None:
        for index in range(N_EPISODES):
            source.sample(META_TRAIN, shape, CounterRng(1, META_TRAIN, 1, index))

    return draw


def random_items(home: Path) -> EpisodeSource:
    """Prepare random pictures, sounds and texts, with some sounds missing."""
    rng, n_rows = np.random.default_rng(1), N_CLASSES * N_ITEMS
    has_sound = rng.random(n_rows) < 2 / 3
    sounds = rng.random((n_rows, 40, 74)).astype(np.float16)
    sounds[~has_sound] = 0
    arrays = {
        "image": rng.integers(0, 256, (n_rows, 3, 32, 32), np.uint8),
        "audio": sounds,
        "text": rng.integers(1, 128, (n_rows, 112), np.uint8),
    }
    return prepared_source(home, "random", arrays, {"audio": has_sound})


def prepared_source(
    home: Path, name: str, arrays: Mapping[str, Array], masks: Mapping[str, Array]
) -> ClassEpisodeSource:
    """Prepare arrays of ``N_ITEMS`` items of each class, and open them."""
    content = Content(
        classes=[ClassInfo(f"class {n}", "all", N_ITEMS) for n in range(N_CLASSES)],
        arrays=dict(arrays),
        present={},
        facts={},
        masks=dict(masks),
    )
    prepared = find_or_prepare(home / "prepared" / f"{name}-0", lambda: content)
    splits = {META_TRAIN: [info.name for info in prepared.classes]}
    return ClassData(name, prepared, splits, tuple(arrays)).open_source()


if __name__ == "__main__":
    main()
