"""Cutting a step: by configuration alone, every episode once."""

from hypothesis import given
from hypothesis import strategies as st

from metafleet.orchestrator.engine.step import Shard, cut
from tests.messages import make_request


def test_the_last_shard_takes_what_is_left() -> None:
    assert cut(make_request(n_episodes=10), 4) == (Shard(0, 0, 4), Shard(1, 4, 4), Shard(2, 8, 2))


def test_fewer_episodes_than_fit_one_job_are_one_shard() -> None:
    assert cut(make_request(n_episodes=3), 100) == (Shard(0, 0, 3),)


def test_evaluations_of_many_episodes_take_more_at_a_time() -> None:
    shards = cut(make_request(kind="evaluate", n_episodes=1000), 4)

    assert len(shards) <= 64
    assert shards[0].n_episodes == 16


def test_evaluations_of_few_episodes_are_cut_like_training() -> None:
    evaluation = make_request(kind="evaluate", n_episodes=100)

    assert cut(evaluation, 4) == cut(make_request(n_episodes=100), 4)


@given(st.sampled_from(["gradient", "evaluate"]), st.integers(1, 5000), st.integers(1, 200))
def test_every_episode_is_in_one_shard_in_order(kind: str, n_episodes: int, size: int) -> None:
    shards = cut(make_request(kind=kind, n_episodes=n_episodes), size)

    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert shards[0].first_episode == 0
    ends = [shard.first_episode + shard.n_episodes for shard in shards]
    assert [shard.first_episode for shard in shards[1:]] == ends[:-1]
    assert ends[-1] == n_episodes
    assert all(shard.n_episodes >= 1 for shard in shards)
    assert len({shard.n_episodes for shard in shards[:-1]}) <= 1
