"""Fusion methods of features as they are: joined, or their mean."""

import pytest
import torch
from torch import Tensor

from metafleet.episode import EpisodeShape, presence_key
from metafleet.errors import ConfigError
from metafleet.models.base import Model
from metafleet.models.episode_norm import EpisodeNorm
from metafleet.models.registry import model_factory
from metafleet.problem import Problem

EPISODES = {"meta_train": EpisodeShape(3, 2, 2)}


def forward(model: Model, inputs: dict[str, Tensor]) -> Tensor:
    norm = EpisodeNorm(model.batch_norm, {}, is_training=True)
    return model.forward(model.init_params(1), inputs, norm.query)


def of_features(method: str, **lengths: float) -> dict[str, object]:
    encoders = {name: {"name": "adapter", "length": length} for name, length in lengths.items()}
    return {"name": "fusion", "method": method, "encoders": encoders}


def features_with_gaps(n: int, one: int, other: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(6)
    inputs = {
        "image": torch.randn(n, one, generator=generator),
        "text": torch.randn(n, other, generator=generator),
    }
    inputs["text"][1] = 0.0
    return inputs | {presence_key("text"): (torch.arange(n) != 1).float()}


def test_joined_features_add_cosines_weighted_by_squared_length() -> None:
    problem = Problem({"image": (5,), "text": (3,)}, 0, EPISODES)
    model = model_factory(of_features("join", image=2.0, text=0.5), problem)(None)
    inputs = features_with_gaps(4, 5, 3)

    found = forward(model, inputs)

    image, text = (torch.nn.functional.normalize(inputs[m], dim=1) for m in ("image", "text"))
    expected = 4.0 * image @ image.T + 0.25 * text @ text.T  # an absent text is zeros
    torch.testing.assert_close(found @ found.T, expected)
    assert set(model.init_params(1)) == {"image.embedding.weight", "text.embedding.weight"}


def test_the_mean_of_features_leaves_out_absent_modalities() -> None:
    problem = Problem({"image": (3,), "text": (3,)}, 0, EPISODES)
    model = model_factory(of_features("mean", image=1.0, text=1.0), problem)(None)
    inputs = features_with_gaps(4, 3, 3)

    found = forward(model, inputs)

    image, text = (torch.nn.functional.normalize(inputs[m], dim=1) for m in ("image", "text"))
    expected = (image + text) / 2
    expected[1] = image[1]
    torch.testing.assert_close(found, expected)


def test_the_mean_of_features_of_different_lengths_is_refused() -> None:
    problem = Problem({"image": (5,), "text": (3,)}, 0, EPISODES)
    with pytest.raises(ConfigError, match="'image' has 5, 'text' has 3"):
        model_factory(of_features("mean", image=1.0, text=1.0), problem)(None)
