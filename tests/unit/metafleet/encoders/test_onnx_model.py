"""Graphs in ONNX give the features that the graph gives by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from metafleet.encoders.registry import get_encoder
from metafleet.errors import ConfigError, DataCorruptError, DataError, DataMissingError
from tests.unit.metafleet.encoders import tiny_models as tiny
from tests.unit.metafleet.encoders.refusals import assert_refused_in_one_line

_RULE = """\
kind = "image"
side = 32
mean = [0.4, 0.5, 0.6]
std = [0.2, 0.3, 0.4]
"""
_WEIGHTS = np.random.default_rng(0).standard_normal((3 * 32 * 32, 6)).astype(np.float32)


def _write(path: Path, batch: int | str = "n", *, rule: str = _RULE) -> Path:
    """Write pictures [batch, 3, 32, 32] -> their values times a matrix [batch, 6]."""
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["pixels"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["features"]),
            helper.make_node("Reshape", ["features", "shape"], ["rows"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, 32, 32])],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 6]),
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, [batch, 3, 2]),
        ],
        [
            numpy_helper.from_array(_WEIGHTS, "weights"),
            numpy_helper.from_array(np.array([-1, 3, 2]), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    path.with_suffix(".toml").write_text(rule)
    return path


def _by_hand(items: Any) -> Any:
    mean, std = (np.array(v).reshape(3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    return ((items / 255.0 - mean) / std).reshape(len(items), -1) @ _WEIGHTS.astype(np.float64)


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_a_graph_gets_pictures_as_its_file_says(batch: int | str, tmp_path: Path) -> None:
    encoder = get_encoder(f"onnx:{_write(tmp_path / 'tiny.onnx', batch)}", kind="image")
    items = tiny.pictures(5)

    found = encoder.encode_part(items)

    np.testing.assert_allclose(found, _by_hand(items), rtol=1e-4, atol=1e-3)
    assert encoder.n_features((3, 32, 32)) == 6
    assert encoder.reading("image")["side"] == 32


@pytest.mark.parametrize(("pooling", "width"), [("", 2), ("class_token", 2), ("flat", 6)])
def test_rows_are_pooled_as_asked(pooling: str, width: int, tmp_path: Path) -> None:
    path = _write(tmp_path / "tiny.onnx", rule=_RULE + 'output = "rows"\n')
    items = tiny.pictures(2)

    found = get_encoder(f"onnx:{path}", kind="image", pooling=pooling).encode_part(items)

    rows = _by_hand(items).reshape(2, 3, 2)
    expected = {"": rows.mean(1), "class_token": rows[:, 0], "flat": rows.reshape(2, 6)}[pooling]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    assert found.shape == (2, width)


def test_a_graph_may_take_pictures_with_channels_last(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    node = helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[1, 2], keepdims=0)
    graph = helper.make_graph(
        [node],
        "means",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 32, 32, 3])],
        [helper.make_tensor_value_info("means", TensorProto.FLOAT, ["n", 3])],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    path.with_suffix(".toml").write_text('kind = "image"\nside = 32\nchannels_last = true\n')
    items = tiny.pictures(2)

    found = get_encoder(f"onnx:{path}", kind="image").encode_part(items)

    np.testing.assert_allclose(found, items.mean(axis=(2, 3)) / 255.0, atol=1e-5)


def test_a_graph_may_take_waves(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    nodes = [
        helper.make_node("ReduceMax", ["wave"], ["max"], axes=[1], keepdims=1),
        helper.make_node("ReduceMean", ["wave"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["max", "mean"], ["both"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "waves",
        [helper.make_tensor_value_info("wave", TensorProto.FLOAT, ["n", "samples"])],
        [helper.make_tensor_value_info("both", TensorProto.FLOAT, ["n", 2])],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    path.with_suffix(".toml").write_text('kind = "audio"\nsample_rate_hz = 8000\n')
    encoder = get_encoder(f"onnx:{path}", kind="audio")
    items = tiny.waves(2, 800)

    found = encoder.encode_part(items)

    np.testing.assert_allclose(found, np.stack([items.max(1), items.mean(1)], 1), atol=1e-6)
    assert encoder.reading("audio")["sample_rate_hz"] == 8_000
    with pytest.raises(ConfigError, match="says kind='audio'; expected one that takes image"):
        get_encoder(f"onnx:{path}", kind="image").reading("image")


def test_tensors_in_a_file_of_their_own_are_part_of_the_identity(tmp_path: Path) -> None:
    path = _write(tmp_path / "tiny.onnx")
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="tiny.data", size_threshold=64
    )
    encoder = get_encoder(f"onnx:{path}", kind="image")
    items = tiny.pictures(2)

    before = encoder.identity()

    assert sorted(before["weights"]) == ["tiny.data", "tiny.onnx", "tiny.toml"]
    np.testing.assert_allclose(encoder.encode_part(items), _by_hand(items), rtol=1e-4, atol=1e-3)
    (tmp_path / "tiny.data").unlink()
    with pytest.raises(DataMissingError, match=r"keeps tensors in 'tiny\.data', which is not"):
        encoder.identity()


def _in_own_file(path: Path, location: str) -> Path:
    """Keep the large tensor of a graph in a file of its own."""
    model = onnx.load(_write(path))
    onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=64)
    return path


def test_a_file_of_tensors_is_found_however_the_graph_names_it(tmp_path: Path) -> None:
    path = _in_own_file(tmp_path / "tiny.onnx", "tiny.data")
    key, value = b"\x0a\x08location", b"\x12\x09tiny.data"
    data = path.read_bytes()
    assert key + value in data
    path.write_bytes(data.replace(key + value, value + key))  # the same in another order
    encoder = get_encoder(f"onnx:{path}", kind="image")

    assert encoder.n_features((3, 32, 32)) == 6
    assert sorted(encoder.identity()["weights"]) == ["tiny.data", "tiny.onnx", "tiny.toml"]


def test_a_file_of_tensors_may_have_a_long_name(tmp_path: Path) -> None:
    name = f"{'t' * 200}.data"
    path = _in_own_file(tmp_path / "tiny.onnx", name)

    assert name in get_encoder(f"onnx:{path}", kind="image").identity()["weights"]


def test_an_input_may_be_called_location(tmp_path: Path) -> None:
    path = _write(tmp_path / "tiny.onnx")
    model = onnx.load(path)
    model.graph.input[0].name = model.graph.node[0].input[0] = "location"
    onnx.save(model, path)

    assert get_encoder(f"onnx:{path}", kind="image").n_features((3, 32, 32)) == 6


def _outer_tensors(path: Path) -> None:
    _in_own_file(path, "tiny.data")
    model = onnx.load(path, load_external_data=False)
    (location,) = (
        each for each in model.graph.initializer[0].external_data if each.value == "tiny.data"
    )
    location.value = "../tiny.data"
    path.write_bytes(model.SerializeToString())


def _without_features(path: Path) -> None:
    model = onnx.load(path)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(_WEIGHTS[:, :0], "weights"))
    del model.graph.node[2], model.graph.output[1]
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 0
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("is_read", [False, True])
def test_a_graph_that_changes_needs_a_new_process(is_read: bool, tmp_path: Path) -> None:
    path = _write(tmp_path / "tiny.onnx")
    encoder, items = get_encoder(f"onnx:{path}", kind="image"), tiny.pictures(2)
    known = encoder.identity()
    found = encoder.encode_part(items) if is_read else None

    path.with_suffix(".toml").write_text(_RULE.replace("0.4, 0.5", "0.5, 0.5"))

    with pytest.raises(DataCorruptError, match=r"'tiny\.toml' changed after this process"):
        encoder.identity()
    if found is None:
        with pytest.raises(DataCorruptError, match="restart the process"):
            encoder.encode_part(items)
    else:  # in memory are the old ones
        np.testing.assert_array_equal(encoder.encode_part(items), found)
    path.with_suffix(".toml").write_text(_RULE)
    assert encoder.identity() == known


def _gone(path: Path) -> None:
    path.unlink()


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _unsaid(path: Path) -> None:
    path.with_suffix(".toml").unlink()


def _rule(text: str) -> Any:
    return lambda path: path.with_suffix(".toml").write_text(text)


@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (_gone, DataMissingError, "there is no file"),
        (_truncated, DataCorruptError, "is no ONNX model that can be read"),
        (_outer_tensors, DataCorruptError, "keeps tensors in '../tiny.data'; expected a file"),
        (_without_features, ConfigError, "gives [1, 0]; expected [n, features]"),
        (_unsaid, ConfigError, "which says what the graph takes; write it"),
        (_rule("side ="), ConfigError, "tiny.toml cannot be read"),
        (_rule("sides = 32"), ConfigError, "sides"),
        (_rule("side = 32\nstd = [0.1, 0.2]"), ConfigError, "std=[0.1, 0.2]; expected three"),
        (_rule(_RULE + 'input = "pictures"'), ConfigError, "names 'pictures'; the graph has"),
        (_rule("side = 16"), ConfigError, "takes [3, 16, 16]; found [3, 32, 32]"),
    ],
)
def test_a_graph_that_cannot_be_used_is_one_line(
    spoil: Any, error: type[Exception], told: str, tmp_path: Path
) -> None:
    path = _write(tmp_path / "tiny.onnx")
    spoil(path)
    encoder = get_encoder(f"onnx:{path}", kind="image")

    assert_refused_in_one_line(encoder, error, told)


def test_a_graph_for_another_size_is_one_line(tmp_path: Path) -> None:
    path = _write(tmp_path / "tiny.onnx", rule="side = 16")

    with pytest.raises(DataError, match=r"cannot encode items of shape \[3, 16, 16\]"):
        get_encoder(f"onnx:{path}", kind="image").n_features((3, 16, 16))
