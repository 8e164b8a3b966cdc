"""The table of scalar functions: every row has a meaning in NumPy and the same one in C++, and is used."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cpp_program import compile_program

from sofie_root.errors import ShapeError
from sofie_root.ir.dim import Symbol, as_poly
from sofie_root.ir.dtype import DType
from sofie_root.program import expr as ex
from sofie_root.program.functions import convert
from sofie_root.program.scalar import ANY, FLOATS, FUNCTIONS, INTEGERS
from sofie_root.targets.cxx import text
from sofie_root.targets.cxx.literals import literal

PACKAGE = Path(__file__).resolve().parents[1] / "sofie_root"

FOR_USERS = {"exp2", "rsqrt", "trunc"}
"""Functions that no operator of ours needs; a user's operator may."""

COUNT = 37
"""Elements: no multiple of the lanes of any vector."""


def names_in(node: ast.expr) -> Iterator[str]:
    """The texts that an argument may be: a literal, or the sides of a choice."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from names_in(node.body)
        yield from names_in(node.orelse)


def functions_in_calls(source: str) -> set[str]:
    """The names of functions that a module's expressions are built of."""
    position = {"call": 0, "compare": 0, "Call": 1, "unary": 0, "binary": 0, "variadic": 0}
    table_row = {"unary": 2, "binary": 2, "variadic": 2}  # those of ops/elementwise.py
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        name = node.func.id if isinstance(node.func, ast.Name) else name
        at = table_row[name] if name in table_row and len(node.args) > 2 else position.get(name)
        if at is not None and at < len(node.args):
            names |= set(names_in(node.args[at]))
    return names


def used() -> set[str]:
    folders = ("ops", "program", "schedule", "kernels", "targets")
    modules = [m for folder in folders for m in (PACKAGE / folder).rglob("*.py")]
    return set().union(*(functions_in_calls(m.read_text()) for m in modules))


def test_every_row_is_used_and_everything_used_has_a_row() -> None:
    assert used() == set(FUNCTIONS) - FOR_USERS


def test_unknown_functions_and_arguments_are_refused() -> None:
    x, flag = ex.Load(DType.FLOAT, "x", (0,)), ex.Load(DType.BOOL, "flag", (0,))
    with pytest.raises(ShapeError, match="no function 'sigmoidd'; is 'sigmoid' meant"):
        ex.call("sigmoidd", x)
    with pytest.raises(ShapeError, match="'exp' takes 1 arguments, not 2"):
        ex.call("exp", x, x)
    with pytest.raises(ShapeError, match="'mul' takes no bool"):
        ex.call("lt", x, 0.0) * 2.0
    assert ex.call("lt", x, 0.0).dtype is DType.BOOL
    assert ex.call("lt", x, 0.0, dtype=DType.FLOAT).dtype is DType.FLOAT
    assert ex.call("select", flag, x, x).dtype is DType.FLOAT


def signatures(name: str) -> Iterator[tuple[tuple[DType, ...], DType]]:
    """Dtypes of arguments that a function takes, and of what it then gives."""
    row = FUNCTIONS[name]
    if name in ("select", "guard"):
        yield from (((DType.BOOL, dtype, dtype), dtype) for dtype in ordered(ANY))
    elif name == "cast":
        yield from (((a,), b) for a in ordered(ANY) for b in ordered(ANY) if a is not b)
    else:
        for dtype in ordered(row.accepts):
            dtypes = (dtype,) * row.arguments
            yield dtypes, row.result_dtype(dtypes)
    if name == "pow":
        yield from (
            ((a, b), a) for a, b in ((DType.FLOAT, DType.INT64), (DType.INT32, DType.FLOAT))
        )


def ordered(dtypes: frozenset[DType]) -> list[DType]:
    return sorted(dtypes, key=lambda d: d.onnx)


def argument(name: str, position: int, dtype: DType) -> np.ndarray:
    """Numbers to call a function with: around zero and, for integers, at both ends."""
    rng = np.random.default_rng([position, dtype.onnx])
    if dtype is DType.BOOL:
        return rng.random(COUNT) < 0.5
    if dtype in FLOATS:
        values = rng.uniform(-3, 3, COUNT)
        values[:6] = [0, 1, -1, 2.5, -2.5, 0.5]
        return rng.permutation(values).astype(dtype.numpy)
    info = np.iinfo(dtype.numpy)
    low = max(-4, info.min)
    if position == 1 and name in ("pow", "shift_left", "shift_right"):
        return rng.integers(low if name == "pow" else 0, 8, COUNT).astype(dtype.numpy)
    values = rng.integers(low, 120, COUNT).astype(dtype.numpy)
    values[:4] = [info.min, info.max, info.max // 2, 0]
    return rng.permutation(values)


@dataclass(frozen=True)
class Case:
    """One function for one dtype, over vectors or element by element."""

    name: str
    arguments: tuple[DType, ...]
    result: DType
    over_vectors: bool

    def __str__(self) -> str:
        kind = "vectors" if self.over_vectors else "elements"
        return f"{self.name}({', '.join(map(str, self.arguments))}) -> {self.result}, {kind}"

    @property
    def arrays(self) -> list[np.ndarray]:
        return [argument(self.name, k, d) for k, d in enumerate(self.arguments)]

    def call(self, i: Symbol) -> ex.Call:
        loads = (ex.Load(d, f"x{k}", (as_poly(i),)) for k, d in enumerate(self.arguments))
        return ex.Call(self.result, self.name, tuple(loads))

    def loop(self) -> str:
        """C++ that reads x0, x1, ... and writes y."""
        i = Symbol("i", COUNT)
        lanes = (i, "j") if self.over_vectors else None
        scope = text.Scope({i: "i"}, {f"x{k}": f"x{k}" for k in range(3)}, lanes=lanes)
        value = text.expression(self.call(i), scope)
        if self.over_vectors:
            body = (
                f"sofie::map(kCount, [&](auto j) SOFIE_INLINE {{ sofie::store(y, j, {value}); }});"
            )
        else:
            body = f"for (std::size_t i = 0; i < kCount; ++i) y[i] = {value};"
        reads = [
            f"  const {d.cpp} x{k}[] = {{{', '.join(literal(v, d) for v in array)}}};"
            for k, (d, array) in enumerate(zip(self.arguments, self.arrays, strict=True))
        ]
        write = "  std::fwrite(y, sizeof(y[0]), kCount, stdout);"
        return "\n".join([*reads, f"  {self.result.cpp} y[kCount];", f"  {body}", write])

    @property
    def expected(self) -> np.ndarray:
        meaning = FUNCTIONS[self.name].numpy
        with np.errstate(all="ignore"):
            if self.name == "cast":
                return convert(self.arrays[0], self.result.numpy)
            if self.name == "guard":
                return np.where(*self.arrays)
            assert meaning is not None
            return np.asarray(meaning(*self.arrays))


def cases() -> list[Case]:
    scalar = [Case(name, *s, False) for name in FUNCTIONS for s in signatures(name)]
    i = Symbol("i", COUNT)
    return scalar + [
        Case(case.name, case.arguments, case.result, True)
        for case in scalar
        if text.vectorises(case.call(i), i)
    ]


def test_vectors_are_of_what_the_table_says() -> None:
    """Guarded reads and conversions become vectors lane by lane; all others as the table says."""
    vectors = {(c.name, c.arguments[-1], c.result) for c in cases() if c.over_vectors}
    for name, row in FUNCTIONS.items():
        if name in ("cast", "guard"):
            continue
        for dtypes, result in signatures(name):
            fits = len({*dtypes, result} - row.vectors) == 0
            mixed = DType.BOOL in (*dtypes, result) and bool({*dtypes, result} & INTEGERS)
            assert ((name, dtypes[-1], result) in vectors) == (fits and not mixed), (name, dtypes)
    assert ("add", DType.INT8, DType.INT8) in vectors
    assert ("exp", DType.FLOAT, DType.FLOAT) in vectors
    assert not any(dtype is DType.DOUBLE for name, dtype, _ in vectors if name != "cast")


FLAGS = {"baseline": (), "avx2": ("-mavx2", "-mfma"), "native": ("-march=native",)}


@pytest.mark.parametrize("build", FLAGS)
def test_every_function_means_in_cpp_what_it_means_in_numpy(build: str, tmp_path: Path) -> None:
    every = cases()
    source = ["#include <cstddef>", "#include <cstdint>", "#include <cstdio>", "#include <limits>"]
    source += ["#include <sofie/core/integer.hxx>", "#include <sofie/cpu/math.hxx>", ""]
    source += ["namespace {", f"constexpr sofie::fixed<{COUNT}> kCount{{}};"]
    for k, case in enumerate(every):
        source += [f"// {case}", f"void case_{k}() {{", case.loop(), "}"]
    source += ["}", "int main() {", *(f"  case_{k}();" for k in range(len(every))), "}"]
    program = compile_program(tmp_path, "\n".join(source), ("-O1", *FLAGS[build]))
    output = subprocess.run([program], capture_output=True, check=True).stdout
    for case in every:
        size = COUNT * case.result.size
        actual, output = np.frombuffer(output[:size], case.result.numpy), output[size:]
        expected = case.expected.astype(case.result.numpy)
        if case.result in FLOATS:
            tolerance = 1e-6 if case.result is DType.FLOAT else 1e-14
            np.testing.assert_allclose(actual, expected, tolerance, tolerance, err_msg=str(case))
        else:
            np.testing.assert_array_equal(actual, expected, str(case))
    assert not output
