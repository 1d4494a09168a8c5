"""Use an encoder of pictures as an encoder of clips."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.encoders.graph_part import GraphPart, PartInput
from metafleet.encoders.picture_part import as_shares
from metafleet.errors import ConfigError


class Frames(PretrainedEncoder):
    """Encodes each frame of a clip as a picture, and averages the features over the frames.

    Args:
        encoder: an encoder of pictures.
    """

    kinds = frozenset(("video",))
    batch_items = 4

    def __init__(self, encoder: PretrainedEncoder) -> None:
        self.name, self._encoder = encoder.name, encoder
        self.packaged = encoder.packaged

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return decoder options for frames in the form that the encoder takes."""
        return self._encoder.reading("image")

    def identity(self) -> Mapping[str, Any]:
        """Return the identity of the encoder, and how frames are pooled."""
        return {**self._encoder.identity(), "frames": "mean"}

    def n_features(self, shape: tuple[int, ...]) -> int:
        """Return the number of features of a frame."""
        return self._encoder.n_features(shape[1:])

    def encode(self, items: Array) -> Array:
        """Encode clips uint8 [n, frames, channels, side, side]."""
        rows = self._encoder.encode_all(items.reshape(-1, *items.shape[2:]))
        found: Array = rows.reshape(*items.shape[:2], -1).mean(axis=1)
        return found

    def graph_part(self, shape: tuple[int, ...]) -> GraphPart:
        """Return the graph part of the encoder of pictures, followed by the mean over frames.

        Raises:
            ConfigError: the encoder of pictures cannot be a part of a graph.
        """
        part = self._encoder.graph_part(shape[1:])
        if part.before is not None:
            raise ConfigError(
                f"encoder {self.name!r} cannot be a part of a graph for clips, because it is a "
                "finished graph for single pictures"
            )
        of_frame = part.inputs[0]
        takes = {**of_frame.takes, "shape": ["n", *shape]}
        return GraphPart(
            (PartInput("", shape, takes),),
            _MeanOverFrames(part.module).eval(),
            lambda items: (as_shares(items),),
        )

    @property
    def licence(self) -> str:
        """The licence of the weights."""
        return self._encoder.licence

    @property
    def logit_scale(self) -> float | None:
        """The factor that turns cosines with texts into logits, from the encoder of pictures."""
        return self._encoder.logit_scale


class _MeanOverFrames(nn.Module):
    def __init__(self, of_frame: nn.Module) -> None:
        super().__init__()
        self.of_frame = of_frame

    def forward(self, clips: Tensor) -> Tensor:
        """Map clips [n, frames, 3, side, side] to features [n, features]."""
        rows: Tensor = self.of_frame(clips.flatten(0, 1))
        return rows.reshape(-1, clips.shape[1], rows.shape[1]).mean(dim=1)
