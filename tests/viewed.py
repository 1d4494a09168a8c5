"""A folder of pictures whose encoder is a small graph, with several views of each picture."""

from pathlib import Path
from typing import Any

from metafleet.orchestrator.config.experiment import ExperimentConfig
from tests.folders import CLASSES, OTHER_SEED, picture, write

SIDE = 32


def write_colours(folder: Path, *, batch: int | str = "n") -> str:
    """Write a graph that gives the mean of each colour in each quarter; return its encoder."""
    import onnx  # noqa: PLC0415
    from onnx import TensorProto, helper  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node(
            "AveragePool", ["pixels"], ["means"], kernel_shape=[16, 16], strides=[16, 16]
        ),
        helper.make_node("Flatten", ["means"], ["colours"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])
    colours = helper.make_tensor_value_info("colours", TensorProto.FLOAT, [batch, 12])
    graph = helper.make_graph(nodes, "colours", [pixels], [colours])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "colours.onnx")
    (folder / "colours.toml").write_text(f'kind = "image"\nside = {SIDE}\n')
    return f"onnx:{folder / 'colours.onnx'}"


def write_pictures(folder: Path, *, n_each: int = 6) -> Path:
    """Write pictures of twelve classes."""
    return write(
        folder,
        {
            f"{name}/{item}.png": picture(n_each * number + item)
            for number, name in enumerate(CLASSES)
            for item in range(n_each)
        },
    )


def options(folder: Path, encoder: str, **image: Any) -> dict[str, Any]:
    """The data set's options, with those of pictures."""
    own = {"encoder": encoder, **image}
    return {"name": "folder", "path": str(folder), "split_seed": OTHER_SEED, "image": own}


def experiment(data: dict[str, Any]) -> ExperimentConfig:
    """An adapter trained on the features of the folder."""
    return ExperimentConfig.from_json(
        {
            "name": "pictures",
            "seed": 3,
            "data": data,
            "episodes": {"n_way": 2, "k_shot": 1, "n_query": 2},
            "model": {"name": "adapter", "modality": "image"},
            "learner": {"name": "protonet"},
            "outer": {"steps": 6, "meta_batch_size": 8, "lr": 0.01},
            "validation": {"every": 0},
            "test": {"episodes": 4, "baselines": False},
            "engine": {"episodes_per_job": 2},
        }
    )
