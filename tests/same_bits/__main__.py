"""``python -m tests.same_bits``: compare the final bits of short runs with the record.

On a processor or a torch that computes other bits than the record's, the expected ones are computed
first, from the commit on record. ``--record`` writes a new record; do so only where a change of
bits is meant, and say so in CHANGELOG.md.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.same_bits.computing import compute
from tests.same_bits.reference import ROOT, computed_at, differences, record, recorded


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the final bits of short runs.")
    parser.add_argument("--record", action="store_true", help="write the record from this checkout")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.record:
            record(Path(scratch) / "home")
            return 0
        expected = recorded()
        found = compute(ROOT, Path(scratch) / "home")
        if found["fingerprint"] != expected["fingerprint"]:
            _say(f"{found['fingerprint']} computes other bits; running {expected['commit']}")
            expected = computed_at(expected["commit"], Path(scratch) / "base")
    lines = differences(expected, found)
    _say("\n".join(lines) or f"the same bits in {len(expected['runs'])} runs")
    return 1 if lines else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
