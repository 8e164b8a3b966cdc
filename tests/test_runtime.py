"""Sessions of hand-written headers, compiled by cling and by the C++ compiler."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import headers
import ml_dtypes
import numpy as np
import pytest

from sofie_root.errors import InputError, StorageError, ToolchainError
from sofie_root.runtime import interpreter
from sofie_root.runtime.session import open_header

WEIGHTS = np.array([1, 2, 3, 4], np.float32)

Engine = interpreter.Engine


@pytest.fixture(params=["cling", "compiler"])
def jit(request: pytest.FixtureRequest) -> Engine:
    engine: Engine = request.param
    return engine


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# -- results ---------------------------------------------------------------------------------------


def test_model_without_symbols(jit: Engine) -> None:
    session = open_header(headers.static(), jit=jit)
    np.testing.assert_array_equal(session(np.array([3, 1, 4], np.float32)), [8, -2])
    assert session.library.engine == jit


def test_dims_may_change_from_call_to_call(jit: Engine) -> None:
    session = open_header(headers.particles(), jit=jit)
    for n, n_pf in [(1, 3), (4, 7), (1, 3), (2, 0), (0, 5)]:
        points, mask = floats(n, 2, n_pf), np.ones((n, 1, n_pf), np.float32)
        result = session(points, mask)
        assert result.shape == (n, 2)
        np.testing.assert_allclose(result, points.sum(2) / (n_pf + 1e-6), rtol=1e-5, atol=1e-6)


def test_description(jit: Engine) -> None:
    session = open_header(headers.several(), jit=jit)
    assert session.symbols == ("N",)
    assert [(t.name, str(t)) for t in session.inputs] == [("x", "double[N, 3]")]
    assert [(t.name, str(t)) for t in session.outputs] == [
        ("total", "double[N]"),
        ("squares", "float[N, 3]"),
        ("positive", "bool[N, 3]"),
    ]
    assert "squares: float[N, 3]" in repr(session)


def test_several_outputs(jit: Engine) -> None:
    session = open_header(headers.several(), jit=jit)
    x = np.array([[1, -2, 3]], np.float64)
    total, squares, positive = session(x)
    np.testing.assert_array_equal(total, [2.0])
    np.testing.assert_array_equal(squares, [[1, 4, 9]])
    np.testing.assert_array_equal(positive, [[True, False, True]])
    assert (total.dtype, squares.dtype, positive.dtype) == (np.float64, np.float32, np.bool_)
    by_name = session.run({"x": x})
    assert list(by_name) == ["total", "squares", "positive"]
    np.testing.assert_array_equal(by_name["squares"], squares)


def test_integer_and_bool_inputs_and_a_scalar_output(jit: Engine) -> None:
    session = open_header(headers.typed(), jit=jit)
    result = session(np.array([1, 0]), np.array([True, False]), np.array([5, 6], np.int32))
    assert (result.shape, result.dtype, int(result)) == ((), np.int32, 6)


def test_sizes_that_only_the_run_tells(jit: Engine) -> None:
    session = open_header(headers.nonzero(), jit=jit)
    for values in ([0, 1, 2, 0, 3], [0, 0], [], [7]):
        indices, twice = session(np.array(values, np.float32))
        np.testing.assert_array_equal(indices, [np.flatnonzero(values)])
        assert indices.dtype == np.int64
        np.testing.assert_array_equal(twice, np.repeat(np.float32(values), 2))


def test_sixteen_bit_floats(jit: Engine) -> None:
    session = open_header(headers.half(), jit=jit)
    x = np.array([1, -2.5, 0], ml_dtypes.bfloat16)
    result = session(x)
    assert result.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(result, -x)


def test_both_engines_give_the_same_bits() -> None:
    points, mask = floats(3, 2, 9), (floats(3, 1, 9) > 0).astype(np.float32)
    one, two = (
        open_header(headers.particles(), jit=j)(points, mask) for j in ("cling", "compiler")
    )
    np.testing.assert_allclose(one, two, rtol=1e-6)


# -- inputs ----------------------------------------------------------------------------------------


def test_contiguous_input_is_read_in_place_and_other_input_is_copied(jit: Engine) -> None:
    header = headers.header(
        "address",
        ["N"],
        [headers.Tensor("x", ("N",))],
        [headers.Tensor("where", (), "std::int64_t"), headers.Tensor("y", ("N",))],
        "where[0] = reinterpret_cast<std::intptr_t>(x); for (std::size_t i = 0; i < N; ++i) y[i] = x[i];",
    )
    session = open_header(header, jit=jit)
    x = np.arange(10, dtype=np.float32)
    where, y = session(x)
    assert int(where) == x.ctypes.data
    x.flags.writeable = False
    assert int(session(x)[0]) == x.ctypes.data
    where, y = session(x[::2])
    assert int(where) != x.ctypes.data
    np.testing.assert_array_equal(y, x[::2])
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32)
    assert not unaligned.flags.aligned
    np.testing.assert_array_equal(session(unaligned)[1], x)


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2, 3, 4]],
        ((1.0, 2.0, 3.0, 4.0),),
        np.array([[1, 2, 3, 4]], ">f4"),
        np.asfortranarray(np.array([[1, 2, 3, 4]], np.float32)),
        np.array([[1, 2, 3, 4]], np.float32).view(np.matrix),
    ],
    ids=["list", "tuple", "big-endian", "fortran", "subclass"],
)
def test_other_ways_to_say_an_array(value: object) -> None:
    session = open_header(headers.dense(), jit="compiler")
    np.testing.assert_array_equal(session(value), [[30]])


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, ["'points'", "missing"]),
        ({"points": floats(1, 2, 3)}, ["'mask'", "missing"]),
        ({"points": floats(1, 2, 3), "mask": floats(1, 1, 3), "z": 1}, ["'z'", "points, mask"]),
        (
            {"points": np.zeros((1, 2, 3)), "mask": floats(1, 1, 3)},
            ["'points'", "float[N, 2, n_pf]", "float64", ".astype('float32')"],
        ),
        (
            {"points": floats(1, 3, 3), "mask": floats(1, 1, 3)},
            ["'points'", "float[N, 2, n_pf]", "[1, 3, 3]", "axis 1 is 3, not 2"],
        ),
        (
            {"points": floats(2, 3), "mask": floats(1, 1, 3)},
            ["'points'", "float[N, 2, n_pf]", "[2, 3]", "2 axes, not 3"],
        ),
        (
            {"points": floats(1, 2, 3), "mask": floats(1, 1, 4)},
            ["'mask'", "n_pf is 4 on axis 2", "3 on axis 2 of 'points'"],
        ),
        (
            {"points": floats(1, 2, 3), "mask": floats(2, 1, 3)},
            ["'mask'", "N is 2 on axis 0", "1 on axis 0 of 'points'"],
        ),
        ({"points": [[1.0], [2.0, 3.0]], "mask": floats(1, 1, 3)}, ["'points'", "no array"]),
        ({"points": "text", "mask": floats(1, 1, 3)}, ["'points'", "dtype <U4"]),
    ],
)
def test_wrong_inputs_are_refused(inputs: dict[str, object], words: list[str]) -> None:
    session = open_header(headers.particles(), jit="compiler")
    with pytest.raises(InputError) as error:
        session.run(inputs)
    for word in words:
        assert word in str(error.value)
    good = {"points": floats(1, 2, 3), "mask": np.ones((1, 1, 3), np.float32)}
    assert session.run(good)["mean"].shape == (1, 2)  # a refused call leaves nothing behind


def test_wrong_number_of_inputs() -> None:
    session = open_header(headers.particles(), jit="compiler")
    with pytest.raises(InputError, match=r"takes 2 inputs \(points, mask\), not 1"):
        session(floats(1, 2, 3))


def test_floats_are_not_truncated_to_integers() -> None:
    session = open_header(headers.typed(), jit="compiler")
    with pytest.raises(InputError, match="int64"):
        session([0.5, 1.0], [True, True], [1, 2])


def test_an_exception_in_the_model_is_an_exception_in_python(jit: Engine) -> None:
    session = open_header(headers.typed(), jit=jit)
    keep, values = np.array([True, True]), np.array([5, 6], np.int32)
    with pytest.raises(InputError, match="index 7 is out of range"):
        session(np.array([0, 7]), keep, values)
    assert session(np.array([0, 1]), keep, values) == 11


# -- outputs ---------------------------------------------------------------------------------------


def test_outputs_into_memory_of_the_caller(jit: Engine) -> None:
    session = open_header(headers.several(), jit=jit)
    x = np.arange(6, dtype=np.float64).reshape(2, 3)
    squares = np.full((2, 3), -1, np.float32)
    results = session.run({"x": x}, out={"squares": squares})
    assert results["squares"] is squares
    np.testing.assert_array_equal(squares, x**2)
    np.testing.assert_array_equal(results["total"], x.sum(1))


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


X = np.zeros((2, 4), np.float32)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("y", np.empty((2, 2), np.float32), "shape [2, 2]"),
        ("y", np.empty((2, 1), np.float64), "dtype float64"),
        ("y", read_only(np.empty((2, 1), np.float32)), "read-only"),
        ("y", np.empty((2, 2), np.float32)[:, :1], "not contiguous"),
        ("y", X.reshape(-1)[:2].reshape(2, 1), "shares memory"),
        ("y", [[0.0], [0.0]], "is a list"),
        ("z", np.empty((2, 1), np.float32), "no output; the model returns y"),
    ],
)
def test_unfit_memory_is_refused(name: str, array: np.ndarray, words: str) -> None:
    session = open_header(headers.dense(), jit="compiler")
    with pytest.raises(InputError) as error:
        session.run({"x": X}, out={name: array})
    assert words in str(error.value)


def test_memory_for_an_output_of_unknown_size_is_refused() -> None:
    session = open_header(headers.nonzero(), jit="compiler")
    with pytest.raises(InputError, match="known only after the run"):
        session.run({"x": floats(3)}, out={"indices": np.empty((1, 3), np.int64)})


# -- threads and lifetime --------------------------------------------------------------------------

SLEEPER = headers.header(
    "sleeper",
    [],
    [headers.Tensor("x", ())],
    [headers.Tensor("y", ())],
    'if (++running > 1) throw std::runtime_error("two threads");\n'
    "    std::this_thread::sleep_for(std::chrono::milliseconds(300)); --running; y[0] = x[0];",
    members="int running = 0;",
).replace("#include <cmath>", "#include <chrono>\n#include <thread>")


def run_in_two_threads(*sessions: object) -> float:
    errors: list[BaseException] = []

    def call(session: object) -> None:
        try:
            assert session(1.0) == 1.0  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(s,)) for s in sessions]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    return time.perf_counter() - start


def test_clones_run_at_the_same_time_and_one_session_does_not(jit: Engine) -> None:
    session = open_header(SLEEPER, jit=jit)
    clone = session.clone()
    session(0.0), clone(0.0)  # compiled
    assert run_in_two_threads(session, clone) < 0.6  # the GIL is free while a model runs
    assert run_in_two_threads(session, session) >= 0.6


def test_sessions_are_freed(jit: Engine) -> None:
    header = headers.header(
        "counter",
        [],
        [],
        [headers.Tensor("alive", (), "std::int64_t")],
        "alive[0] = count;",
        members="static inline int count = 0; ~Session() { --count; }",
        construct="++count;",
    )
    session = open_header(header, jit=jit)
    clones = [session.clone() for _ in range(3)]
    assert session() == 4
    del clones
    gc.collect()
    assert session() == 1


def test_weights(jit: Engine, tmp_path: Path) -> None:
    path = tmp_path / "weights \u00e9.dat"
    path.write_text("2.5")
    session = open_header(headers.weighted(), weights=path, jit=jit)
    np.testing.assert_array_equal(session([1, 2]), [2.5, 5])
    np.testing.assert_array_equal(session.clone()([1, 2]), [2.5, 5])
    with pytest.raises(StorageError, match="cannot read weights file 'nowhere'"):
        open_header(headers.weighted(), weights="nowhere", jit=jit)
    with pytest.raises(StorageError, match=r"cannot read weights file 'weighted\.dat'"):
        open_header(headers.weighted(), jit=jit)


# -- self-test -------------------------------------------------------------------------------------


def test_self_test_accepts_rounding_and_refuses_wrong_numbers() -> None:
    session = open_header(headers.dense(), jit="compiler")
    x = {"x": floats(2, 4)}
    y = x["x"] @ WEIGHTS[:, None]
    session.self_test(x, {"y": y})
    session.self_test(x, {"y": y * np.float32(1 + 1e-6)})
    for wrong in (y * 1.05, y[:1], y.astype(np.float64), np.full_like(y, np.nan)):
        with pytest.raises(ToolchainError, match="self-test failed"):
            session.self_test(x, {"y": wrong})


def test_self_test_compares_integers_and_nan_exactly() -> None:
    session = open_header(headers.nonzero(), jit="compiler")
    x = np.array([1, np.nan, np.inf], np.float32)
    good = {"indices": np.array([[0, 1, 2]]), "twice": np.repeat(x, 2)}
    session.self_test({"x": x}, good)
    with pytest.raises(ToolchainError, match="'indices'"):
        session.self_test({"x": x}, good | {"indices": np.array([[0, 1, 3]])})
    with pytest.raises(ToolchainError, match="'twice'"):
        session.self_test({"x": x}, good | {"twice": np.repeat(np.float32([1, np.nan, 3]), 2)})
