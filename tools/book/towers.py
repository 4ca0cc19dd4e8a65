"""The embedded model as files for the browser: both towers as ONNX graphs, the vocabulary, and the settings.

The weights are stored as they are shipped (half precision, word embeddings in a byte); the page computes with them in
float32.
"""

import json
import logging
import warnings

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript import optimizer

from clipnb.models import EMBEDDED_DIR, Model

OPSET = 18
FEW_VALUES = 256  # a weight with no more distinct values is stored as one byte a number
SMALL = 64  # numbers in a tensor that is not worth packing


def model_files(model: Model) -> dict[str, bytes]:
    """Name -> content: both towers, the vocabulary, and how images and texts are prepared."""
    size, mean, std = (model.config["preprocessing"][name] for name in ("size", "mean", "std"))
    size = size if isinstance(size, int) else size[0]
    vocabulary = json.loads((EMBEDDED_DIR / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    settings = {"size": size, "mean": list(mean), "std": list(std), "contextLength": model.context_length}
    # any text of at least two tokens would do: its length is left open
    tokens = model.trim(model.tokenizer(["a small red dog"])).int()
    visual = model.module.visual.to(memory_format=torch.contiguous_format)
    return {
        "settings": json.dumps(settings).encode(),
        "vocabulary": json.dumps(sorted(vocabulary, key=vocabulary.get), ensure_ascii=False).encode(),
        "image-tower": graph_bytes(visual, torch.zeros(1, 3, size, size), {}),
        "text-tower": graph_bytes(model.module.text, tokens, {1: torch.export.Dim.DYNAMIC}),
    }


class UnitNorm(torch.nn.Module):
    """A tower that gives unit-norm vectors."""

    def __init__(self, tower: torch.nn.Module):
        super().__init__()
        self.tower = tower

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.tower(x), dim=-1)


def graph_bytes(tower: torch.nn.Module, example: torch.Tensor, dynamic: dict[int, object]) -> bytes:
    """The tower as an ONNX file with one input, x, and one output, y, its weights as small as in the checkpoint."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The exporter's own optimization would fold batch normalization into the filters, and half precision does not
        # hold those. The runtime folds it when it loads the graph.
        program = torch.onnx.export(
            UnitNorm(tower).eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["x"],
            output_names=["y"],
            dynamic_shapes=(dynamic,),
            optimize=False,
            verbose=False,
        )
    optimizer.inline(program.model)
    optimizer.fold_constants(program.model)
    optimizer.remove_unused_nodes(program.model)
    model = program.model_proto
    pack_weights(model.graph)
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return model.SerializeToString()


def pack_weights(graph: onnx.GraphProto) -> None:
    """Store each float32 weight in half precision or in a byte, where that loses nothing, and widen it in the graph."""
    stored, widening = [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < SMALL or not fits_half(values):
            stored.append(tensor)
            continue
        readers = [node for node in graph.node if tensor.name in node.input]
        if len(readers) == 1 and readers[0].op_type == "Gather" and len(distinct := np.unique(values)) <= FEW_VALUES:
            stored += look_up_values(graph, readers[0], tensor.name, values, distinct)
            continue
        stored.append(numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}_half"))
        widening.append(helper.make_node("Cast", [f"{tensor.name}_half"], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*widening, *graph.node]
    for field, content in ((graph.initializer, stored), (graph.node, nodes)):
        del field[:]
        field.extend(content)


def fits_half(values: np.ndarray) -> bool:
    """Whether half precision holds these float32 numbers exactly."""
    with np.errstate(over="ignore"):
        return np.array_equal(values.astype(np.float16), values)


def look_up_values(
    graph: onnx.GraphProto, gather: onnx.NodeProto, name: str, values: np.ndarray, distinct: np.ndarray
) -> list[onnx.TensorProto]:
    """Let `gather` read rows of bytes, and look up what the bytes stand for; returns the bytes and their meanings."""
    result = gather.output[0]
    gather.output[0] = f"{result}_bytes"
    place = list(graph.node).index(gather) + 1
    graph.node.insert(place, helper.make_node("Cast", [f"{result}_bytes"], [f"{result}_codes"], to=TensorProto.INT32))
    graph.node.insert(place + 1, helper.make_node("Gather", [f"{name}_values", f"{result}_codes"], [result]))
    return [
        numpy_helper.from_array(np.searchsorted(distinct, values).astype(np.uint8), name),
        numpy_helper.from_array(distinct, f"{name}_values"),
    ]
