"""The models of the benchmark: how each is built, at which size it is measured, and its bar."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import version_converter

from . import classic, physics
from .timing import BenchError
from .zoo_folder import ZOO

Arrays = dict[str, np.ndarray]
TOLERANCE = 1e-3
"""Wide enough for other orders of summation, Winograd and float32 in deep networks."""


@dataclass(frozen=True)
class Case:
    """A model at one size.

    Attributes:
        name: what ``--models`` selects, and the row's title.
        build: makes the ONNX model.
        dims: sizes of its symbolic dims.
        bar: the ratio to ONNX Runtime that is to be reached.
        exact_bar: the same for ``generate(exact=True)``.
        tags: ``quick`` (in ``--quick``), ``heavy`` (only when named or with ``--all``), ``zoo``,
            ``events`` (measured in an event loop too, with ``--events``).
        inputs: makes the inputs; standard normal floats if None.
        macs: multiply-adds, for a model in which they cannot be counted from the graph.
        tolerance: largest difference of a right output, relative to its largest value.
        symbolic: whether the dims stay symbolic in the file that everyone opens.
        series: name of the curve that this is a point of, and where it is on the axis.
    """

    name: str
    build: Callable[[], onnx.ModelProto]
    dims: Mapping[str, int] = field(default_factory=dict)
    bar: float | None = None
    exact_bar: float | None = None
    tags: frozenset[str] = frozenset()
    inputs: Callable[[], Arrays] | None = None
    macs: int | None = None
    tolerance: float = TOLERANCE
    symbolic: bool = False
    series: tuple[str, int] | None = None


def catalogue() -> list[Case]:
    """Every case, those of the zoo included where it is found."""
    return [*_classic(), *_physics(), *_zoo()]


def _classic() -> Iterable[Case]:
    quick, heavy = frozenset({"quick"}), frozenset({"heavy"})
    for batch, bar in ((1, 0.28), (32, 0.70), (256, 0.75)):
        yield Case(
            f"linear50x10_b{batch}",
            partial(classic.dense, 10, 50, batch),
            bar=bar,
            tags=quick,
            series=("10 x Linear 50: batch", batch),
        )
    yield Case(
        "linear200x5_b1", partial(classic.dense, 5, 200, 1), bar=0.62, tags=quick | {"events"}
    )
    yield Case("conv5x5_1to2", classic.one_conv, bar=0.15, tags=quick)
    for batch, tags in ((1, frozenset[str]()), (32, heavy)):
        yield Case(
            f"conv14_b{batch}",
            partial(classic.conv_chain, batch),
            bar=0.28,
            exact_bar=0.50,
            tags=tags,
            series=("14 x Conv 5x5: batch", batch),
        )
    yield Case("resnet18", classic.resnet18, bar=0.56)
    for cell in ("RNN", "GRU", "LSTM"):
        yield Case(cell.lower(), partial(classic.recurrent, cell), bar=0.40, tags=quick)
    yield Case("convtranspose", classic.conv_transpose, bar=0.90, tags=quick)
    yield Case("conv3d", classic.conv_3d, bar=0.90, tags=quick)


def _physics() -> Iterable[Case]:
    yield Case("gn2", physics.gn2, bar=0.55, tags=frozenset({"events"}))
    yield Case("particlenet", physics.particlenet, bar=0.35)
    yield Case("diffusion_step", physics.diffusion_step, bar=0.50)
    for total in (50, 200, 500, 1000, 2000, 5000):
        nodes = total // 5
        yield Case(
            f"interaction_{total}",
            physics.interaction_network,
            {"n_nodes": nodes, "n_edges": total - nodes},
            bar=0.50,
            tags=frozenset({"quick"}) if total == 200 else frozenset(),
            inputs=partial(_random_graph, nodes, total - nodes),
            symbolic=True,
            series=("Interaction network: nodes + edges", total),
        )


def _random_graph(nodes: int, edges: int) -> Arrays:
    rng = np.random.default_rng(3)
    return {
        "nodes": rng.standard_normal((nodes, 4), np.float32),
        "edges": rng.standard_normal((edges, 4), np.float32),
        "senders": rng.integers(0, nodes, edges),
        "receivers": np.sort(rng.integers(0, nodes, edges)),
    }


ZOO_BARS = (
    (r"deepdoublex|deepvertex|deepflavour", 0.45),
    (r"deepboostedjet", 0.40),
    (r"higgsinteractionnet|calo_unet3d", 0.50),
    (r"particlenet", 0.35),
    (r"particletransformer", 0.55),
    (r"^exatrkx_gnn$", 0.35),
)
_DEFAULT_ZOO_BAR = 0.90


def _zoo() -> Iterable[Case]:
    for file in sorted(ZOO.glob("models/*/model.onnx")):
        name = file.parent.name
        bars = (bar for pattern, bar in ZOO_BARS if re.search(pattern, name))
        meta = json.loads(file.with_name("meta.json").read_text())
        inputs = partial(_stored_inputs, file.parent, meta)
        dims = _zoo_dims(meta)
        bar = next(bars, _DEFAULT_ZOO_BAR)
        tags = frozenset({"zoo"})
        # Quantised networks round: one step apart is a large difference.
        tolerance = max(TOLERANCE, meta["suggested_rel_tol"])
        yield Case(
            f"zoo/{name}",
            partial(onnx.load, file),
            dims,
            bar,
            tags=tags,
            inputs=inputs,
            macs=meta["macs_set0"],
            tolerance=tolerance,
        )


def _zoo_dims(meta: dict[str, Any]) -> dict[str, int]:
    """Sizes of the symbolic dims in the first stored input set."""
    shapes = meta["io_sets"][0]["input_shapes"]
    return {
        dim: size
        for port in meta["inputs"]
        for dim, size in zip(port["shape"], shapes[port["name"]], strict=True)
        if isinstance(dim, str)
    }


def _stored_inputs(folder: Path, meta: dict[str, Any]) -> Arrays:
    with np.load(folder / "inputs_0.npz") as stored:
        return {port["name"]: stored[port["key"]] for port in meta["inputs"]}


def file_case(path: Path, dims: Mapping[str, int]) -> Case:
    """A case for a user's file, with random inputs; symbolic dims that are not given are 1."""
    import sofie_root
    from sofie_root.samples import draw_inputs

    model = sofie_root.load(path)
    sizes = {symbol: dims.get(symbol, 1) for symbol in model.symbols}
    inputs = partial(draw_inputs, model.graph, np.random.default_rng(1), sizes, 1)
    return Case(path.stem, partial(onnx.load, path), sizes, inputs=inputs)


def select(
    patterns: Iterable[str],
    *,
    quick: bool = False,
    everything: bool = False,
    dims: Mapping[str, int] | None = None,
) -> list[Case]:
    """Cases by name, pattern (``linear*``, ``zoo/*``) or file; without any, the default set.

    Args:
        patterns: what the user asked for.
        quick: of the default set, those that are done quickly.
        everything: the default set and the heaviest.
        dims: sizes of the symbolic dims of files.

    Raises:
        BenchError: a pattern fits nothing; names what there is.
    """
    cases = catalogue()
    wanted: list[Case] = []
    for pattern in patterns:
        if pattern.endswith(".onnx"):
            found = [file_case(Path(pattern), dims or {})]
        else:
            found = [c for c in cases if fnmatch.fnmatch(c.name, pattern)]
        if not found:
            known = ", ".join(c.name for c in cases)
            raise BenchError(f"no model is called {pattern!r}; there are: {known}")
        wanted += [c for c in found if c not in wanted]
    if wanted:
        return wanted
    if quick:
        return [c for c in cases if "quick" in c.tags]
    return [c for c in cases if everything or "heavy" not in c.tags]


def fixed(model: onnx.ModelProto, inputs: Arrays) -> onnx.ModelProto:
    """The model with the dims of its inputs set to those of the arrays, for every contender alike."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.value_info[:]
    sizes: dict[str, int] = {}
    for value in result.graph.input:
        if value.name in inputs:
            dims = value.type.tensor_type.shape.dim
            for dim, size in zip(dims, inputs[value.name].shape, strict=True):
                sizes.setdefault(dim.dim_param, size)
                dim.dim_value = size
    for value in result.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param and dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    return result


def is_modern(model: onnx.ModelProto) -> bool:
    """Whether the model is in an opset that ONNX Runtime knows."""
    return max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")) >= 7


def modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in such an opset."""
    return model if is_modern(model) else version_converter.convert_version(model, 13)


def make_inputs(case: Case, model: onnx.ModelProto) -> Arrays:
    """The inputs of a case, by name in the model's order."""
    constants = {t.name for t in model.graph.initializer}
    ports = [v for v in model.graph.input if v.name not in constants]
    if case.inputs is not None:
        given = case.inputs()
        return {v.name: given[v.name] for v in ports}
    rng = np.random.default_rng(11)
    arrays: Arrays = {}
    for value in ports:
        shape = [case.dims.get(d.dim_param, d.dim_value) for d in value.type.tensor_type.shape.dim]
        arrays[value.name] = rng.standard_normal(shape).astype(np.float32)
    return arrays
