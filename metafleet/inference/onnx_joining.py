"""Put the finished graphs of encoders before a graph that takes their rows."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import onnx
from onnx import compose, version_converter

from metafleet.encoders.graph_part import FixedGraph


def join_graphs(model: Any, before: Iterable[tuple[str, str, FixedGraph]]) -> Any:
    """Return the model with graphs before some of its inputs.

    Args:
        model: the model, an ``onnx.ModelProto``.
        before: for each graph, the name of an input of the model, the name of the input that
            replaces it, and the graph that computes the former from the latter.
    """
    outputs = [output.name for output in model.graph.output]
    version = next(it.version for it in model.opset_import if it.domain in ("", "ai.onnx"))
    for rows, name, fixed in before:
        joined = version_converter.convert_version(onnx.load(fixed.path), version)
        joined.ir_version = model.ir_version
        del joined.metadata_props[:]
        known = {fixed.input: name, fixed.output: f"{name}/{rows}"}
        _rename(joined.graph, partial(_new_name, known=known, prefix=f"{name}/"))
        inputs = [it.name for it in model.graph.input if it.name != rows]
        model = compose.merge_models(
            joined,
            model,
            io_map=[(f"{name}/{rows}", rows)],
            inputs=[name, *inputs],
            outputs=outputs,
        )
    return model


def _new_name(name: str, *, known: Mapping[str, str], prefix: str) -> str:
    return known.get(name, prefix + name) if name else ""  # "" is a node without a name or input


def _rename(graph: Any, new_name: Callable[[str], str]) -> None:
    """Rename everything in a graph. ``compose.add_prefix`` misses names from outside of loops."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new_name(value.name)
    for node in graph.node:
        node.name = new_name(node.name)
        for names in (node.input, node.output):
            names[:] = [new_name(name) for name in names]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, new_name)
