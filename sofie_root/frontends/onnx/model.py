"""Whole ONNX models: the file, its opsets, inputs and functions, around the import of the nodes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import FunctionProto, ModelProto, TypeProto, ValueInfoProto

from sofie_root.budget import stage
from sofie_root.build import GraphBuilder
from sofie_root.errors import BudgetError, ModelError
from sofie_root.ir import DType, Graph, Refuse

from .importer import Importer
from .node import NEWEST_OPSET, normal_domain
from .order import initializers
from .scope import FunctionKey, Scope
from .tensors import TensorReader, type_name

LARGEST = 1 << 31
"""Bytes of a file: Protocol Buffers cannot be larger."""


def parse(path: str | os.PathLike[str], dims: Mapping[str, int] | None = None) -> Graph:
    """Reads an ONNX file.

    Args:
        path: the ``.onnx`` file; external data is looked for in its folder only.
        dims: sizes for symbolic dims, ``{"N": 1}``; the others stay symbolic.

    Raises:
        ModelError: the file cannot be read or is not valid ONNX.
        BudgetError: it takes more work or memory than its budget (see :mod:`sofie_root.budget`).
        UnsupportedError: names every node that cannot be translated.
        InputError: ``dims`` names a symbol that the model does not have.
    """
    file = Path(path)
    try:
        status = file.stat()
        if stat.S_ISREG(status.st_mode) and status.st_size > LARGEST:
            raise ModelError(
                f"has {status.st_size} bytes, an ONNX file at most {LARGEST}; save its weights as "
                "external data",
                file=os.fspath(path),
            )
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise ModelError("cannot be read (it is no plain file)", file=os.fspath(path))
        data = file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot be read ({error.strerror}); check the path", file=os.fspath(path)
        ) from None
    try:
        model = ModelProto.FromString(data)
    except DecodeError:
        raise ModelError(
            "is not an ONNX model, or is cut off; copy or export it again", file=os.fspath(path)
        ) from None
    graph = _import(model, file.stem, file.parent, dims, os.fspath(path))
    graph.metadata["sha256"] = hashlib.sha256(data).hexdigest()
    graph.metadata["source"] = file.name
    return graph


def from_proto(
    model: ModelProto,
    name: str | None = None,
    base_dir: str | os.PathLike[str] | None = None,
    dims: Mapping[str, int] | None = None,
) -> Graph:
    """Imports a model that is in memory.

    Args:
        model: the model.
        name: name of the graph; the model's own if not given.
        base_dir: folder of external data; without it, external data is an error.
        dims: as in :func:`parse`.

    Raises:
        ModelError, UnsupportedError, InputError: as :func:`parse`.
    """
    base = None if base_dir is None else Path(base_dir)
    graph = _import(model, name or model.graph.name or "model", base, dims, None)
    graph.metadata["sha256"] = hashlib.sha256(
        model.SerializeToString(deterministic=True)
    ).hexdigest()
    graph.metadata["source"] = ""
    return graph


def _import(
    model: ModelProto,
    name: str,
    base_dir: Path | None,
    dims: Mapping[str, int] | None,
    file: str | None,
) -> Graph:
    try:
        with stage():
            _check_text(model)
            opsets = _opsets(model)
            tensors = initializers(model.graph)
            builder = GraphBuilder(name, dims=dims, file=file)
            reader = TensorReader(base_dir, file, model.ByteSize())
            inputs = _add_inputs(model, builder, set(tensors))
            scope = Scope(opsets, values={n: n for n in inputs}, tensors=tensors)
            graph = Importer(builder, reader, _functions(model)).run(model.graph, scope)
    except (ModelError, BudgetError) as error:
        error.file = error.file or file
        raise
    graph.metadata.update(
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        ir_version=model.ir_version,
        opsets=opsets,
        properties={p.key: p.value for p in model.metadata_props},
    )
    return graph


def _check_text(message: Message) -> None:
    """Protobuf returns strings that are not UTF-8 as bytes; nobody behind this expects them."""
    for field, content in message.ListFields():
        if field.type == field.TYPE_STRING:
            texts = [content] if isinstance(content, (str, bytes)) else content
            if any(isinstance(t, bytes) for t in texts):
                raise ModelError("holds names that are not UTF-8; is it damaged?")
        elif field.type == field.TYPE_MESSAGE:
            for inner in [content] if isinstance(content, Message) else content:
                _check_text(inner)


def _opsets(model: ModelProto) -> dict[str, int]:
    if not model.HasField("graph") or not model.opset_import:
        raise ModelError("is not an ONNX model: it has no graph or no opset; export it again")
    opsets: dict[str, int] = {}
    for entry in model.opset_import:
        domain = normal_domain(entry.domain)
        opsets[domain] = max(entry.version, opsets.get(domain, 0))
    version = opsets.get("", NEWEST_OPSET)
    if version > NEWEST_OPSET:
        raise ModelError(
            f"uses opset {version}, the installed onnx {onnx.__version__} knows up to "
            f"{NEWEST_OPSET}; upgrade it: pip install --upgrade onnx"
        )
    if version < 1:
        raise ModelError(f"uses opset {version}, which does not exist; export it again")
    return opsets


def _functions(model: ModelProto) -> dict[FunctionKey, FunctionProto]:
    functions: dict[FunctionKey, FunctionProto] = {}
    for function in model.functions:
        key = (normal_domain(function.domain), function.name, function.overload)
        if key in functions:
            raise ModelError(
                f"defines the function {function.name!r} twice; export the model again"
            )
        functions[key] = function
    return functions


def _add_inputs(model: ModelProto, builder: GraphBuilder, constant: set[str]) -> list[str]:
    """Adds the run-time inputs and returns their names; an input with an initialiser is a constant."""
    inputs = [i for i in model.graph.input if i.name not in constant]
    builder.dim_names.update(d.dim_param for i in inputs for d in i.type.tensor_type.shape.dim)
    for value in inputs:
        with builder.source(value.name, "input", (value.name,)):
            dtype, shape = _declared(value)
            builder.input(value.name, dtype, shape)
    builder.check_dims()
    return [i.name for i in inputs]


def _declared(value: ValueInfoProto) -> tuple[DType, list[int | str | None]]:
    """Dtype and shape of an input as the model states them; None for a dim without a name."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise Refuse(f"is a {(kind or 'value of unknown type').replace('_type', '')}, not a tensor")
    tensor: TypeProto.Tensor = value.type.tensor_type
    dtype = DType.from_onnx(tensor.elem_type)
    if dtype is None:
        raise Refuse(f"element type {type_name(tensor.elem_type)} is not supported")
    if not tensor.HasField("shape"):
        raise Refuse("has no declared shape; export the model with one (its dims may be symbolic)")
    return dtype, [
        int(d.dim_value) if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param or None
        for d in tensor.shape.dim
    ]
