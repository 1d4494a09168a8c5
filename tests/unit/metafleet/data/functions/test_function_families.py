import math

import pytest
import torch

from metafleet.data.registry import least_mse, open_data, open_source
from metafleet.episode import EpisodeShape
from metafleet.errors import ConfigError
from metafleet.seeds import CounterRng

ALL = ["sinusoid", "linear", "quadratic", "tanh", "abs"]
SHAPE = EpisodeShape(n_way=0, k_shot=40, n_query=40)
KINK_GRID = torch.linspace(-3, 3, 6001, dtype=torch.float64)


def sample(tmp_path, index, **options):
    source = open_source({"name": "function_families", **options}, tmp_path)
    episode = source.sample("meta_train", SHAPE, CounterRng(7, "meta_train", 3, index))
    x = torch.cat([episode.support.inputs["x"], episode.query.inputs["x"]]).double()[:, 0]
    y = torch.cat([episode.support.targets, episode.query.targets]).double()[:, 0]
    return x, y


def fit(x, y, *columns):
    basis = torch.stack(columns, dim=-1)
    coefficients = torch.linalg.lstsq(basis, y[..., None].expand(*basis.shape[:-1], 1)).solution
    residual = (basis @ coefficients)[..., 0] - y
    return coefficients[..., 0], residual.abs().amax(-1)


def fit_with_centre(x, y, shape):
    """Fit a * shape(x - c) + b on a grid of c; return a, c, b and the residual."""
    moved = shape(x[None, :] - KINK_GRID[:, None])
    coefficients, residual = fit(x, y, moved, torch.ones_like(moved))
    best = residual.argmin()
    return (*coefficients[best].tolist(), KINK_GRID[best].item(), residual[best].item())


@pytest.mark.parametrize("index", range(0, 60, 5))
def test_every_family_has_its_form_and_its_ranges(tmp_path, index):
    one = torch.ones(80, dtype=torch.float64)
    x, y = sample(tmp_path, index, families=ALL, noise_std=0.0)
    (a, b), residual = fit(x, y, x.sin(), x.cos())
    assert residual < 1e-5 and 0.1 - 1e-4 <= math.hypot(a, b) <= 5 + 1e-4
    assert -1e-4 <= math.atan2(-b, a) <= math.pi + 1e-4

    x, y = sample(tmp_path, index + 1, families=ALL, noise_std=0.0)
    (slope, intercept), residual = fit(x, y, x, one)
    assert residual < 1e-5 and abs(slope) <= 3 + 1e-4 and abs(intercept) <= 3 + 1e-4

    x, y = sample(tmp_path, index + 2, families=ALL, noise_std=0.0)
    (a, b, c), residual = fit(x, y, x**2, x, one)
    centre = -b / (2 * a)
    assert residual < 1e-4 and 0.02 - 1e-4 <= abs(a) <= 0.15 + 1e-4
    assert abs(centre) <= 3 + 1e-2 and abs(c - a * centre**2) <= 3 + 1e-2

    x, y = sample(tmp_path, index + 3, families=ALL, noise_std=0.0)
    scale, height, _, residual = fit_with_centre(x, y, torch.tanh)
    assert residual < 5e-3 and abs(scale) <= 3.01 and abs(height) <= 3.01

    x, y = sample(tmp_path, index + 4, families=ALL, noise_std=0.0)
    slope, height, _, residual = fit_with_centre(x, y, torch.abs)
    assert residual < 5e-3 and abs(slope) <= 3.01 and abs(height) <= 3.01


def test_parabolas_open_both_ways(tmp_path):
    signs = set()
    for index in range(12):
        x, y = sample(tmp_path, index, families=["quadratic"], noise_std=0.0)
        (a, _, _), _ = fit(x, y, x**2, x, torch.ones_like(x))
        signs.add(bool(a > 0))
    assert signs == {True, False}


def test_noise_is_on_support_and_query_and_as_large_as_said(tmp_path):
    support, query = [], []
    for index in range(60):
        x, y = sample(tmp_path, index, families=["linear"])
        _, exact = sample(tmp_path, index, families=["linear"], noise_std=1e-12)
        assert exact.shape == y.shape
        (slope, intercept), _ = fit(x, y, x, torch.ones_like(x))
        residual = y - slope * x - intercept
        support.append(residual[:40])
        query.append(residual[40:])

    for found in (torch.cat(support), torch.cat(query)):
        # 2,400 residuals of a fit of 2 parameters to 80 points: 0.3 * sqrt(78 / 80), within 3 %
        assert found.std().item() == pytest.approx(0.3 * math.sqrt(78 / 80), rel=0.04)


def test_the_floor_of_the_error_is_printed(tmp_path):
    facts = open_data({"name": "function_families"}, tmp_path).summarise().facts

    assert facts["least mean squared error"] == "0.09"
    assert facts["families"] == "sinusoid, linear"
    assert least_mse({"name": "function_families", "noise_std": 0.5}) == 0.25
    assert least_mse({"name": "sinusoid"}) == 0.0
    assert least_mse({"name": "glyphs"}) == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"families": []}, r"families=\[\]; expected one family or more, each once"),
        ({"families": ["abs", "abs"]}, r"families=\['abs', 'abs'\]; expected one family or more"),
        ({"families": ["cubic"]}, "families='cubic'; expected one of 'sinusoid', 'linear'"),
        ({"noise_std": -0.1}, "noise_std=-0.1; expected 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=f"data set 'function_families': {message}"):
        open_source({"name": "function_families", **options}, tmp_path)
