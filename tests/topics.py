"""A table of made-up sentences with several topics each, which their words tell."""

import csv
import random
from pathlib import Path

_WORDS = 8


def write_topics(path: Path, topics: range, *, n_items: int, seed: int) -> None:
    """Write a manifest with the columns ``text`` and ``labels``.

    Args:
        path: the CSV file.
        topics: each has a name, "topic03", and words of its own.
        n_items: rows; each has one to three topics, and three words of each.
        seed: of the draws.
    """
    rng = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "labels"])
        for _ in range(n_items):
            chosen = rng.sample(topics, rng.randint(1, min(3, len(topics) - 1)))
            words = [
                f"w{topic}{'abcdefgh'[n]}" for topic in chosen for n in rng.sample(range(_WORDS), 3)
            ]
            rng.shuffle(words)
            writer.writerow([" ".join(words), "; ".join(f"topic{topic:02d}" for topic in chosen)])
