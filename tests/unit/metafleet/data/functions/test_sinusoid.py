import math

import pytest
import torch

from metafleet.data.registry import open_data, open_source
from metafleet.episode import EpisodeShape
from metafleet.errors import ConfigError
from metafleet.seeds import CounterRng

SHAPE = EpisodeShape(n_way=0, k_shot=5, n_query=11)


def sample(tmp_path, *, split="meta_train", index=0, **options):
    source = open_source({"name": "sinusoid", **options}, tmp_path)
    return source.sample(split, SHAPE, CounterRng(7, split, 0, index))


def fit(x: torch.Tensor, y: torch.Tensor) -> tuple[float, float, float]:
    """Fit a * sin x + b * cos x; return amplitude, phase and the largest residual."""
    x, y = x.double(), y.double()
    basis = torch.cat([x.sin(), x.cos()], dim=1)
    a, b = torch.linalg.lstsq(basis, y).solution.flatten().tolist()
    residual = (basis @ torch.tensor([[a], [b]], dtype=torch.float64) - y).abs().max().item()
    return math.hypot(a, b), math.atan2(-b, a), residual


def test_support_and_query_lie_on_one_sine_wave_within_the_published_ranges(tmp_path):
    for index in range(100):
        episode = sample(tmp_path, index=index)

        x = torch.cat([episode.support.inputs["x"], episode.query.inputs["x"]])
        y = torch.cat([episode.support.targets, episode.query.targets])
        amplitude, phase, residual = fit(x, y)
        assert x.shape == (16, 1) and x.dtype == y.dtype == torch.float32
        assert residual < 1e-4
        assert amplitude + 1e-4 >= 0.1 and amplitude - 1e-4 <= 5.0
        assert -1e-3 <= phase <= math.pi + 1e-3
        assert x.abs().max() <= 5.0
        assert episode.is_regression


def test_an_episode_depends_on_its_address_and_splits_differ(tmp_path):
    first, again = sample(tmp_path, index=4), sample(tmp_path, index=4)

    assert torch.equal(first.query.inputs["x"], again.query.inputs["x"])
    assert torch.equal(first.query.targets, again.query.targets)
    for other in (sample(tmp_path, index=5), sample(tmp_path, split="meta_test", index=4)):
        assert not torch.equal(first.query.inputs["x"], other.query.inputs["x"])


def test_noise_is_on_support_targets_alone(tmp_path):
    episode = sample(tmp_path, noise_std=0.5)

    assert fit(episode.query.inputs["x"], episode.query.targets)[2] < 1e-4
    assert fit(episode.support.inputs["x"], episode.support.targets)[2] > 1e-2


def test_classes_are_refused(tmp_path):
    source = open_source({"name": "sinusoid"}, tmp_path)

    with pytest.raises(ConfigError, match="n_way=5 but data set 'sinusoid' is regression"):
        source.check("meta_train", EpisodeShape(5, 1, 1))
    with pytest.raises(ConfigError, match="no split 'test'"):
        source.sample("test", SHAPE, CounterRng(1, "test"))
    source.check("meta_val", SHAPE)
    assert source.n_classes("meta_val") == 0
    assert (source.modalities, source.target_dim) == ({"x": (1,)}, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"amplitude_min": 0}, "amplitude_min=0.0; expected more than 0"),
        ({"amplitude_max": 0.05}, "amplitude_max=0.05; expected amplitude_min=0.1 or more"),
        ({"x_min": 5}, "x_max=5.0; expected more than x_min=5.0"),
        ({"noise_std": -1}, "noise_std=-1.0; expected 0 or more"),
        ({"phase_max": "pi"}, "phase_max='pi'; expected a finite number"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=f"data set 'sinusoid': {message}"):
        open_source({"name": "sinusoid", **options}, tmp_path)


def test_the_digest_follows_the_options(tmp_path):
    plain = open_data({"name": "sinusoid"}, tmp_path).digest()

    assert open_data({"name": "sinusoid"}, tmp_path).prepare() is None
    assert plain == open_data({"name": "sinusoid", "x_max": 5}, tmp_path).digest()
    assert plain != open_data({"name": "sinusoid", "x_max": 6}, tmp_path).digest()
    assert open_data({"name": "sinusoid"}, tmp_path).summarise().digest == plain
    assert list(tmp_path.iterdir()) == []
