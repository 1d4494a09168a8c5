"""Items encoded per second: in one process, and over one and two workers on the same machine.

    python -m benchmarks.encoding --root FOLDER [--repeats 3] [--json FILE]

FOLDER is the Free Spoken Digit Dataset. Its 3,000 recordings are decoded once; then
package:speech-embedding encodes them from the beginning each time, and the features are stored.
Rows run in turn; the output gives the median, minimum and maximum, and the bytes that travelled.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.data_plane import machine
from benchmarks.round_robin import time_in_turns
from metafleet.data.decoding.audio import AudioOptions
from metafleet.data.decoding.columns import Column, decode_columns
from metafleet.data.sets.fsdd_files import find_recordings
from metafleet.encoders.base import Array
from metafleet.encoders.choice import EncoderName
from metafleet.encoders.encoding import encode_rows, encoding_elsewhere
from metafleet.encoders.registry import get_encoder
from metafleet.encoders.store import FeatureStore
from metafleet.orchestrator.engine.feature_fleet import FeatureFleet
from tests.fleet import Fleet, open_fleet
from tests.redis_server import RedisServer

ENCODER = "package:speech-embedding"


def main() -> None:
    """Measure and print; write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = measure(Path(home), arguments.root, repeats=arguments.repeats)
    for name, row in found.items():
        rate = f"{row['median']:>8,.0f} items/s ({row['min']:,.0f} to {row['max']:,.0f})"
        moved = f"{row['sent_mb']:.1f} MB sent, {row['received_mb']:.1f} MB received"
        print(f"{name:<12} {rate} {moved}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": found}))


def measure(home: Path, root: Path, *, repeats: int) -> dict[str, dict[str, float]]:
    """Return row -> median, min and max of items per second, and megabytes that travelled."""
    items = decoded(home, root)
    moved: dict[str, tuple[int, int]] = {"in process": (0, 0)}
    works: dict[str, Callable[[], object]] = {"in process": lambda: encode(items, home)}
    with ExitStack() as stack:
        for n in (1, 2):
            server = RedisServer()
            stack.callback(server.stop)
            fleet = stack.enter_context(open_fleet(home / f"fleet-{n}", server.url))
            fleet.start(n)
            name = f"{n} worker{'s' * (n > 1)}"
            works[name] = over(fleet, items, home, lambda own, key=name: moved.update({key: own}))
        times = time_in_turns(works, repeats=repeats)
    return {name: _row(times[name], len(items), moved[name]) for name in works}


def decoded(home: Path, root: Path) -> Array:
    """Return all recordings as the encoder takes them: float32 [3000, 16000]."""
    recordings = find_recordings(root)
    if recordings is None:
        raise SystemExit(f"error: {root} has no recordings of FSDD; give their folder as --root")
    options = AudioOptions(encoder=ENCODER, sample_rate_hz=8000, duration_s=1.0)
    column = Column("audio", "audio", options, list(recordings.read().values()))
    return np.asarray(decode_columns([column], home).arrays["audio"])


def encode(items: Array, home: Path) -> None:
    """Encode all items into a new store."""
    with tempfile.TemporaryDirectory(dir=home) as folder:
        encode_rows(
            get_encoder(ENCODER, kind="audio"),
            items,
            range(len(items)),
            lambda row, features: None,
            store=FeatureStore(Path(folder), 96),
            name=EncoderName("audio", ENCODER),
        )


def over(
    fleet: Fleet, items: Array, home: Path, note: Callable[[tuple[int, int]], None]
) -> Callable[[], None]:
    """Return a function that encodes all items over a fleet and notes the bytes that travelled."""

    def work() -> None:
        feature_fleet = FeatureFleet(fleet.settings, print)
        with encoding_elsewhere(feature_fleet.encode):
            encode(items, home)
        note((feature_fleet.encoded.sent_bytes, feature_fleet.encoded.received_bytes))

    return work


def _row(seconds: list[float], n_items: int, moved: tuple[int, int]) -> dict[str, float]:
    rates = [n_items / s for s in seconds]
    return {
        "median": statistics.median(rates),
        "min": min(rates),
        "max": max(rates),
        "sent_mb": moved[0] / 1e6,
        "received_mb": moved[1] / 1e6,
    }


if __name__ == "__main__":
    main()
