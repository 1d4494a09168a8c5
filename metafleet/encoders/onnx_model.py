"""A graph in ONNX, with a TOML file of the same name that describes its inputs.

    [model.toml]
    kind = "image"
    side = 224
    mean = [0.485, 0.456, 0.406]
    std = [0.229, 0.224, 0.225]

See docs/reference/encoders.md for all entries. The graph runs on the CPU, with one thread per call.
"""

import functools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch

from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.encoders.fetching import path_of
from metafleet.encoders.graph_part import FixedGraph, GraphPart, PartInput, Pooling
from metafleet.encoders.loaded_once import loaded_once
from metafleet.encoders.model_folder import require_bytes
from metafleet.encoders.pixels import PixelRule
from metafleet.encoders.pooling import choose_pooling, pool_rows
from metafleet.encoders.runtime import encoder_library, onnx_session
from metafleet.encoders.weights import FirstDigests, file_sha256, version_of
from metafleet.errors import ConfigError, DataCorruptError, DataMissingError
from metafleet.options import parse_options

_INSTALL: Final = "pip install 'metafleet[onnx]'"
_PICTURES: Final = ("image",)
_POOLINGS: Final = ("class_token", "mean", "max", "flat")


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """The entries of the TOML file.

    Attributes:
        kind: kind of data that the graph takes: "image", which also serves clips, or "audio".
        input, output: name of the graph's input and name of its output; "" for the first input or
            output.
        pooling: how outputs of several rows, [n, rows, features], are pooled: "class_token",
            "mean", "max" or "flat"; "" for "mean".
        channels_last: whether pictures are [n, side, side, 3] instead of [n, 3, side, side].
        side: height and width of pictures, in pixels.
        mean, std: three numbers each, for red, green and blue. A value v in [0, 1] becomes
            (v - mean) / std.
        crop_share: the shorter side is resized to side / crop_share, and the central square is
            cropped.
        resample, fit: as in the options of images.
        sample_rate_hz: sample rate of the sounds, which are waves [n, samples].
    """

    kind: Literal["image", "audio"] = "image"
    input: str = ""
    output: str = ""
    pooling: Literal["", "class_token", "mean", "max", "flat"] = ""
    channels_last: bool = False
    side: int = 224
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    crop_share: float = 1.0
    resample: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    fit: Literal["center", "stretch"] = "center"
    sample_rate_hz: int = 16_000

    def __post_init__(self) -> None:
        _ = self.rule  # checks its attributes

    @property
    def is_picture(self) -> bool:
        """Whether the graph takes pictures, not waves."""
        return self.kind in _PICTURES

    @property
    def rule(self) -> PixelRule:
        """The preprocessing of pictures."""
        return PixelRule(
            self.side, self.crop_share, self.resample, self.mean, self.std, fit=self.fit
        )


class OnnxModel(PretrainedEncoder):
    """An encoder that runs a graph.

    Args:
        name: name of the encoder in configurations.
        place: path of the graph.
        kind: the kind of data to encode.
        pooling: how several rows are pooled to one; "" for the pooling in the TOML file.
    """

    def __init__(self, name: str, place: str, kind: str, pooling: str = "") -> None:
        self.name, self.kinds, self._pooling = name, frozenset((kind,)), pooling
        self._path, self._first = path_of(name, place), FirstDigests()
        if pooling:
            choose_pooling(name, pooling, _POOLINGS)

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return the decoder options that the TOML file gives."""
        options = self._options
        if options.kind not in self.kinds:
            raise ConfigError(
                f"encoder {self.name!r}: {self._described} says kind={options.kind!r}; expected "
                f"one that takes {kind}"
            )
        if options.is_picture:
            return options.rule.reading()
        return {"sample_rate_hz": options.sample_rate_hz, "form": "wave", "place": "start"}

    def identity(self) -> Mapping[str, Any]:
        """Return the digests of the graph, of its tensors and of the TOML file, and the version."""
        _ = self._options  # reports a missing or wrong TOML file
        return {
            "encoder": "onnx",
            "weights": self._digests(),
            "pooling": self._pooling,
            "versions": {"onnxruntime": version_of("onnxruntime")},
        }

    def n_features(self, shape: tuple[int, ...]) -> int:
        """Return the number of features of one item. This runs the graph."""
        options = self._options
        if options.is_picture:
            options.rule.require_shape(self.name, shape)
        elif len(shape) != 1:
            raise ConfigError(f"encoder {self.name!r} takes waves [samples]; found {list(shape)}")
        return self._n_features(shape)

    @functools.lru_cache(maxsize=8)  # noqa: B019 - encoders live as long as the process
    def _n_features(self, shape: tuple[int, ...]) -> int:
        return int(self._encoded(self._blank(shape)).shape[1])

    def encode(self, items: Array) -> Array:
        """Encode pictures uint8 [n, 3, side, side] or waves float32 [n, samples]."""
        values = self._input_values(items)
        size = self._graph_batch or len(values)
        parts = [self._run(values[i : i + size], size) for i in range(0, len(values), size)]
        return np.concatenate(parts)

    def graph_part(self, shape: tuple[int, ...]) -> GraphPart:
        """Return the graph, followed by the pooling of its rows. Normalisation is not part of it.

        Raises:
            ConfigError: the graph takes only batches of one fixed size.
        """
        if self._graph_batch:
            raise ConfigError(
                f"encoder {self.name!r} takes batches of {self._graph_batch} items, and a graph "
                "that includes it must take any number; export it with a dynamic first axis"
            )
        output = self._options.output or str(self._session.get_outputs()[0].name)
        before = FixedGraph(
            self._path,
            self._input,
            output,
            lambda values: np.asarray(self._session.run([output], {self._input: values})[0]),
        )
        values = self._input_values(self._blank(shape))
        return GraphPart(
            (PartInput("", values.shape[1:], self._takes(values.shape[1:])),),
            Pooling(self._pooling or self._options.pooling or "mean"),
            lambda items: (torch.from_numpy(self._input_values(items)),),
            before,
        )

    def _takes(self, shape: tuple[int, ...]) -> Mapping[str, Any]:
        options = self._options
        found = {"shape": ["n", *shape], "dtype": "float32"}
        if not options.is_picture:
            rate_hz = options.sample_rate_hz
            return {**found, "values": "samples from -1 to 1", "sample_rate_hz": rate_hz}
        rule = options.rule.to_json()
        return {**found, "values": "red, green and blue from 0 to 1, minus mean, over std", **rule}

    def _blank(self, shape: tuple[int, ...]) -> Array:
        return np.zeros((1, *shape), np.uint8 if self._options.is_picture else np.float32)

    def _input_values(self, items: Array) -> Array:
        options = self._options
        if not options.is_picture:
            return np.asarray(items, np.float32)
        values: Array = options.rule.normalised(items).numpy()
        last = values.transpose(0, 2, 3, 1) if options.channels_last else values
        return np.ascontiguousarray(last)

    def _run(self, values: Array, size: int) -> Array:
        """Return float32 [n, features]; a fixed batch is filled by repeating the last item."""
        full = np.concatenate([values, np.repeat(values[-1:], size - len(values), 0)])
        outputs = [self._options.output] if self._options.output else None
        found = self._session.run(outputs, {self._input: np.ascontiguousarray(full)})[0]
        rows = np.asarray(found, np.float32)[: len(values)]
        if rows.ndim == 4:  # of a convolutional network: [n, features, height, width]
            rows = rows.reshape(*rows.shape[:2], -1).transpose(0, 2, 1)
        if rows.ndim == 3:
            return pool_rows(rows, self._pooling or self._options.pooling or "mean")
        if rows.ndim != 2 or not rows.shape[1]:
            raise ConfigError(
                f"encoder {self.name!r} gives {list(rows.shape)}; expected [n, features] or "
                f"[n, rows, features]; name another output in {self._described}"
            )
        return np.ascontiguousarray(rows)

    @property
    def _described(self) -> Path:
        return self._path.with_suffix(".toml")

    @loaded_once
    def _options(self) -> GraphOptions:
        path = self._described
        if path.is_file():
            self._digests()
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(
                f"encoder {self.name!r} needs {path}, which says what the graph takes; write it, "
                'such as kind = "image", side = 224, mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5]'
            ) from None
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"encoder {self.name!r}: {path} cannot be read ({error}); correct it"
            ) from error
        options: GraphOptions = parse_options(GraphOptions, values, where=str(path))
        return options

    def _graph(self) -> Path:
        if not self._path.is_file():
            raise DataMissingError(
                f"encoder {self.name!r}: there is no file {str(self._path)!r}; check the path"
            )
        return self._path

    def _tensors(self) -> list[Path]:
        """Return the files next to the graph that hold its tensors.

        Raises:
            DataMissingError: a file that the graph names is missing.
            DataCorruptError: the graph names a file in another folder.
        """
        folder = self._graph().parent
        for name in self._files_of_tensors:
            if Path(name).name != name:
                raise DataCorruptError(
                    f"encoder {self.name!r} keeps tensors in {name!r:.80}; expected a file next to "
                    "it"
                )
            if not (folder / name).is_file():
                raise DataMissingError(
                    f"encoder {self.name!r} keeps tensors in {name!r:.80}, which is not next to "
                    "it; copy it there"
                )
        return [folder / name for name in self._files_of_tensors]

    @loaded_once
    def _files_of_tensors(self) -> list[str]:
        library = encoder_library("onnx", encoder=self.name, install=_INSTALL)
        try:
            model = library.load(self._graph(), load_external_data=False)
        except Exception as error:  # of the library, of protobuf or of the disk
            raise DataCorruptError(
                f"{self._path} is no ONNX model that can be read: {type(error).__name__}"
            ) from error
        return sorted(set(_locations(model, library.TensorProto)))

    def _digests(self) -> dict[str, str]:
        """Return name -> sha256 of all files, after checking that none has changed."""
        files = (self._graph(), *self._tensors(), self._described)
        found = {path.name: file_sha256(path) for path in files}
        self._first.require_same(self.name, found)
        return found

    @loaded_once
    def _session(self) -> Any:
        self._digests()
        files = (self._graph(), *self._tensors())
        require_bytes(self.name, sum(path.stat().st_size for path in files))
        session = onnx_session(self._path, encoder=self.name, install=_INSTALL)
        for asked, there in (
            (self._options.input, session.get_inputs()),
            (self._options.output, session.get_outputs()),
        ):
            names = [each.name for each in there]
            if asked and asked not in names:
                raise ConfigError(
                    f"{self._described} names {asked!r}; the graph has {', '.join(names)}"
                )
        return session

    @property
    def _input(self) -> str:
        return self._options.input or str(self._session.get_inputs()[0].name)

    @property
    def _graph_batch(self) -> int:
        """Return the batch size that the graph requires; 0 if it takes any."""
        inputs = {each.name: each.shape for each in self._session.get_inputs()}
        first = inputs[self._input][:1]
        return first[0] if first and isinstance(first[0], int) and first[0] > 0 else 0


def _locations(message: Any, tensor: type[Any]) -> Iterator[str]:
    """Yield the names of the files in which the tensors of a message of protobuf are kept."""
    if isinstance(message, tensor):
        yield from (each.value for each in message.external_data if each.key == "location")
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in (value,) if hasattr(value, "ListFields") else value:
                yield from _locations(each, tensor)
