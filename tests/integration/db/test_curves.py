import math
import random

import pytest

from metafleet.db.engine import Database
from metafleet.db.repositories import OuterStepRepository
from metafleet.db.repositories.curves import Bucket, CurveRepository
from tests.databases import add_run, make_step


def read(
    database: Database, run_id: int, within: tuple[int, int], most: int, *columns: str
) -> list[Bucket]:
    with database.session(read_only=True) as session:
        return CurveRepository(session).steps(run_id, columns, within=within, most=most)


def test_buckets_have_the_mean_and_the_range_of_consecutive_steps(database: Database) -> None:
    run, other = add_run(database), add_run(database)
    draw = random.Random(1)
    losses = {step: draw.gauss(1, 1) for step in range(1, 1001)}
    with database.session() as session:
        steps = [make_step(step, loss=loss) for step, loss in losses.items()]
        OuterStepRepository(session).upsert_many(run.id, steps)
        OuterStepRepository(session).upsert_many(other.id, [make_step(1, loss=99.0)])

    found = read(database, run.id, (101, 1000), 90, "loss", "accuracy")

    assert len(found) == 90
    assert [bucket.step for bucket in found[:2]] == [105, 115]
    for index, bucket in enumerate(found):
        part = [losses[step] for step in range(101 + 10 * index, 111 + 10 * index)]
        spread = bucket.spreads["loss"]
        assert spread.mean == pytest.approx(sum(part) / 10)
        assert (spread.low, spread.high) == (min(part), max(part))
        assert 0 < bucket.spreads["accuracy"].mean < 1


def test_few_steps_are_returned_one_by_one(database: Database) -> None:
    run = add_run(database)
    with database.session() as session:
        steps = [make_step(1), make_step(2, loss=math.nan), make_step(4)]
        OuterStepRepository(session).upsert_many(run.id, steps)

    found = read(database, run.id, (1, 300), 300, "loss")

    assert [bucket.step for bucket in found] == [1, 2, 4]
    assert ["loss" in bucket.spreads for bucket in found] == [True, False, True]
    with database.session(read_only=True) as session:
        assert CurveRepository(session).last_step(run.id) == 4
        assert CurveRepository(session).last_step(run.id + 1) == 0
