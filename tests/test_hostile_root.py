"""`.root` files whose author wants his text to become code: nothing in a file does.

Every operator that has a case is stored, and each place of its description replaced in turn, by C++, by
text that ends comments and strings, and by numbers that no writer makes. Either the file is refused, or
the header has the form that it had before: the text is in comments and strings, and in parts of names.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
import xxhash
from cpp_program import compile_program
from json_places import Place, get, places, renamed_key, replaced, without
from onnx import numpy_helper
from onnx_models import model as onnx_model
from onnx_models import node, value
from operator_case import Case
from operator_cases import CASES
from operator_cases_image import CASES as IMAGE_CASES
from operator_cases_kernels import CASES as KERNEL_CASES
from small_models import control, mlp, rnn, selection

import sofie_root
from sofie_root.budget import stage
from sofie_root.errors import ModelError, SofieError, StorageError
from sofie_root.frontends.onnx import from_proto
from sofie_root.ir import OPERATORS, Graph, TensorType
from sofie_root.model import Model
from sofie_root.storage import description, root_file
from sofie_root.storage.description import encode_graph

MARK = "pwn"
HOSTILE = [
    '1; static inline int pwn = std::system("touch pwned");',
    "pwn\n#error pwn\n",
    "pwn*/ int pwn; /*",
    'pwn"; int pwn = 1; //',
    "pwn'); int pwn; //",
    "pwn\\\nint pwn;",
    "pwn??/\nint pwn;",
    "pwn\\",
    "pwn\0int pwn;",
    "pwn\u2028\u202e\x1b[2Jü粒",
    "pwn\ud800",
    'pwn)sofie" pwn R"sofie(',
    "%n%s{pwn}",
    "pwn" * 5000,
]
"""Each has the mark in it."""

NUMBERS = [
    -5, 0, 2**31, 2**62, 2**63, 2**70, 1.5, 1e308, True, None, [], {}, [[]], [-5], "5", "", "nan",
]  # fmt: skip

TOKEN = re.compile(
    r"""
    (?P<space>\s+) | (?P<comment>//[^\n]*|/\*.*?\*/) | (?P<raw>R"([^()\s\\]{0,16})\(.*?\)\4")
    | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*') | (?P<word>\w+) | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def form(text: str) -> Counter[str]:
    """What a compiler sees of a header, but for names, numbers and the content of comments and strings."""
    text = re.sub(r"\?\?/", r"\\", text).replace("\\\n", "")
    found: Counter[str] = Counter()
    for match in TOKEN.finditer(text):
        kind, token = match.lastgroup or "", match.group()
        if kind not in ("space", "comment"):
            found[token if kind == "other" else kind] += 1
    return found


def one_of_each(cases: list[Case]) -> list[Case]:
    """A case of each operator, and one for each set of attributes that is given."""
    found: dict[tuple[str, ...], Case] = {}
    for case in cases:
        found.setdefault((case.op_type, *sorted(case.attrs)), case)
    return list(found.values())


OPERATOR_CASES = one_of_each([*CASES, *KERNEL_CASES, *IMAGE_CASES])


class Stored:
    """A graph as a `.root` file holds it."""

    def __init__(self, graph: Graph) -> None:
        self.document: dict[str, Any] = json.loads(json.dumps(encode_graph(graph)))
        self.document["constants"] = [
            {"name": name, "checksum": root_file.checksum(array)}
            for name, array in graph.constants.items()
        ]
        self.arrays = list(graph.constants.values())

    def read(self, number: int, name: str, type_: TensorType) -> np.ndarray:
        if number >= len(self.arrays):
            raise StorageError(f"has no TTree 'w/t{number}'", tensor=name)
        array = self.arrays[number]
        if array.shape != type_.shape or array.dtype != type_.dtype.numpy:
            raise StorageError("has other elements", tensor=name)
        return array

    def header(self, document: Any) -> str | None:
        """The header that a changed description gives; None where it is refused."""
        try:
            graph = root_file.graph_of(document, self.read)
            return Model(graph).header(standalone=False).text
        except SofieError:
            return None


Change = tuple[str, Callable[[Any], Any]]
"""What is changed, and the description that it gives for a value."""


def replacements(document: Any) -> Iterator[Change]:
    """A value at each place."""
    for place in places(document):
        if place:
            yield f"{place}", partial(replaced, document, place)


def renamed_members(document: Any) -> Iterator[Change]:
    """Descriptions in which one member of one JSON object is renamed."""
    for place in members(document):
        yield f"key {place}", partial(renamed_key, document, place)


def removed_members(document: Any) -> Iterator[Change]:
    """Descriptions in which one member of one JSON object is removed, whatever the value."""
    for place in members(document):
        yield f"no {place}", lambda _, at=place: without(document, at)


def members(document: Any) -> Iterator[Place]:
    """The places in JSON objects."""
    for place in places(document):
        if place and isinstance(get(document, place[:-1]), dict):
            yield place


def is_name(document: Any, place: tuple[Any, ...]) -> bool:
    """Whether a name stands there that the author of a file chooses."""
    found = get(document, place)
    if not isinstance(found, str) or found in ("//", "min", "max"):
        return False
    fixed = place[-1] in ("op", "domain", "checksum", "module") or "attributes" in place
    return not fixed and not (place[-3:-2] == ("types",) and place[-1] == 1)


def renamings(document: Any) -> Iterator[Change]:
    """Each name of the author's called otherwise wherever it stands, then all: the graph stays whole."""
    named: dict[str, list[Place]] = {}
    for place in places(document):
        if is_name(document, place):
            named.setdefault(get(document, place), []).append(place)

    def renamed(groups: Sequence[list[Place]], text: str) -> Any:
        changed = copy.deepcopy(document)
        for k, where in enumerate(groups):
            for place in where:
                get(changed, place[:-1])[place[-1]] = f"{text}{k}"
        return changed

    for name, where in named.items():
        yield f"{name!r}", partial(renamed, [where])
    yield "all names", partial(renamed, list(named.values()))


Values = Callable[[int, Callable[[Any], Any]], Sequence[Any]]
"""What to put into a place, by the number and the function of the change."""


def check(stored: Stored, changes: Iterable[Change], values: Sequence[Any] | Values) -> int:
    """Tries changed descriptions; returns how many of them are headers still."""
    accepted = 0
    original = form(stored.header(stored.document) or "")
    for k, (what, change) in enumerate(changes):
        for replacement in values(k, change) if callable(values) else values:
            text = stored.header(change(replacement))
            if text is None:
                continue
            accepted += 1
            found = form(text)
            if MARK in text and found != original:  # a new symbol makes another program
                expected = form(stored.header(change(MARK)) or "")
                assert found == expected, f"{what} = {replacement!r}: {found - expected}"
    return accepted


def symbolic(k: int, case: Case) -> Graph:
    return from_proto(case.model(symbolic=k % 2 == 1 and not case.static))


GRAPHS = [partial(symbolic, k, case) for k, case in enumerate(OPERATOR_CASES)]
GRAPHS += [lambda: control().graph, lambda: rnn().graph, lambda: selection().graph]


@pytest.mark.parametrize("part", range(4))
def test_no_place_of_a_description_becomes_code(part: int) -> None:
    """Every field of every operator, with one of the texts; and some of the numbers."""
    generator = random.Random(part)
    for k, graph in enumerate(GRAPHS[part::4]):
        stored, text = Stored(graph()), HOSTILE[k % len(HOSTILE)]
        changes = list(replacements(stored.document))
        check(stored, changes, [text])
        check(stored, generator.sample(changes, 10), [generator.choice(NUMBERS)])
        *single, every = renamings(stored.document)
        check(stored, [generator.choice(single)], [text])
        assert check(stored, [every], [text]) == ("\ud800" not in text)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_no_place_of_a_description_becomes_code_whatever_stands_there(part: int) -> None:
    for number, graph in enumerate(GRAPHS[part::8]):
        stored = Stored(graph())

        def texts(
            k: int, change: Callable[[Any], Any], own: Stored = stored, n: int = number
        ) -> Any:
            """Some where text may stand, other ones in the next graph; one where not even a harmless may."""
            count = 4 if own.header(change(MARK)) is not None else 1
            return (HOSTILE * 2)[(at := (k + 3 * n) % len(HOSTILE)) : at + count]

        check(stored, replacements(stored.document), texts)
        check(stored, replacements(stored.document), NUMBERS)
        check(stored, renamed_members(stored.document), texts)
        check(stored, removed_members(stored.document), [None])
        check(stored, renamings(stored.document), texts)


def rewrite(path: Path, change: Callable[[Any], Any]) -> Path:
    """The file with a changed description, whose checksum is right, and the same trees."""
    with uproot.open(path) as file:
        document = json.loads(str(file["sofie_ir"]))
        arrays = [
            file[f"w/t{k}"]["data"].array(library="np") for k in range(len(document["constants"]))
        ]
    document.pop("checksum")
    document = change(document)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    document["checksum"] = xxhash.xxh64_hexdigest(text.encode())
    with uproot.recreate(path) as out:
        out["sofie_ir"] = json.dumps(document)
        for k, array in enumerate(arrays):
            out.mktree(f"w/t{k}", {"data": array.dtype}).extend({"data": array})
    return path


def test_a_file_that_ran_a_command_is_refused(tmp_path: Path) -> None:
    """What a stranger's file did: a scale that is printed as a constant was a text."""
    case = next(c for c in IMAGE_CASES if c.op_type == "RoiAlign")
    path = Model(from_proto(case.model())).save(tmp_path / "m.root")
    place = ("nodes", 0, "attributes", "spatial_scale")
    rewrite(path, lambda d: replaced(d, place, HOSTILE[0]))
    with pytest.raises(
        ModelError, match=r"m\.root.*'spatial_scale' must be float, it is '1; static"
    ):
        sofie_root.load(path)


def test_hostile_names_in_a_file_compile(tmp_path: Path) -> None:
    """All names of a model with everything, as a file and with a compiler that sees every warning."""
    source = ""
    for k, text in enumerate(t for t in HOSTILE if "\ud800" not in t):
        path = control().save(tmp_path / f"m{k}.root")
        stored = Stored(control().graph)
        *_, (_, rename) = renamings(stored.document)
        rewrite(path, lambda _, r=rename, t=text, s=stored: r(t) | {"format": 1})
        header = sofie_root.load(path).generate(tmp_path / f"m{k}.hxx", standalone=False)
        source += f'#include "{header.name}"\n'
    compile_program(tmp_path, source + "int main() {}")
    assert not list(tmp_path.glob("pwned"))


# -- custom operators --------------------------------------------------------------------------------


@pytest.fixture
def custom(tmp_path: Path) -> Iterator[Graph]:
    """A graph with an operator of loops and one that calls C++; with attributes of all kinds."""
    before = dict(OPERATORS)
    (tmp_path / "mine.hxx").write_text("#include <sofie/span.hxx>\n")
    attributes = {
        "whole": 3,
        "real": 1.5,
        "text": "a",
        "wholes": [1, 2],
        "reals": [1.5, 2.5],
        "flag": 1,
    }

    class Fields:
        whole: int
        real: float
        text: str
        wholes: tuple[int, ...]
        reals: tuple[float, ...]
        flag: int | None = None

    annotations = dict(Fields.__annotations__)

    class Loops(sofie_root.Op):
        __annotations__ = annotations
        flag = None

        def infer(self, x: Any) -> Any:
            return x

        def lower(self, b: Any, x: Any) -> Any:
            return b.loop(x.shape, lambda *i: x[i] * self.real + float(self.whole))

    class Calls(sofie_root.CppOp):
        __annotations__ = annotations
        flag = None
        header = str(tmp_path / "mine.hxx")
        function = "mine::calls"

        def infer(self, x: Any) -> Any:
            return x

    sofie_root.operator("Loops", domain="test.hostile")(Loops)
    sofie_root.operator("Calls", domain="test.hostile")(Calls)
    nodes = [
        node(op, [x], [y], domain="test.hostile", **attributes)
        for op, x, y in (("Loops", "x", "m"), ("Calls", "m", "y"))
    ]
    yield from_proto(onnx_model(nodes, [value("x", ["N", 3])], ["y"], domains={"test.hostile": 1}))
    OPERATORS.clear()
    OPERATORS.update(before)


def test_custom_operators_of_a_hostile_file(custom: Graph) -> None:
    stored = Stored(custom)
    assert check(stored, replacements(stored.document), HOSTILE) > 0
    assert check(stored, replacements(stored.document), NUMBERS) > 0
    assert check(stored, renamed_members(stored.document), HOSTILE[:2]) > 0
    for node_, name in ((0, "real"), (1, "whole"), (1, "wholes"), (1, "text")):
        wrong: Any = HOSTILE[0] if name != "text" else 5
        place = ("nodes", node_, "attributes", name)
        with pytest.raises(ModelError, match=f"attribute '{name}' must be"):
            root_file.graph_of(replaced(stored.document, place, wrong), stored.read)


def test_custom_operators_of_a_hostile_onnx_file() -> None:
    class Real(sofie_root.Op):
        scale: float = 1.0

        def infer(self, x: Any) -> Any:
            return x

    sofie_root.operator("Real", domain="test.hostile")(Real)
    try:
        for wrong in (1, "1; int pwn", [1.0], [1], ["1"]):
            bad = node("Real", ["x"], ["y"], domain="test.hostile", name="r", scale=wrong)
            proto = onnx_model([bad], [value("x", [3])], ["y"], domains={"test.hostile": 1})
            with pytest.raises(ModelError, match=r"Real 'r': attribute 'scale' must be float"):
                from_proto(proto)
    finally:
        del OPERATORS["test.hostile", "Real"]


# -- graphs that contradict themselves ---------------------------------------------------------------


def chain() -> Stored:
    """y = (x + w) * 2, symbolic; a constant and two nodes."""
    nodes = [
        node("Add", ["x", "w"], ["m"], name="sum"),
        node("Mul", ["m", "two"], ["y"], name="twice"),
    ]
    constants = [
        numpy_helper.from_array(np.ones(3, np.float32), "w"),
        numpy_helper.from_array(np.float32(2), "two"),
    ]
    return Stored(from_proto(onnx_model(nodes, [value("x", ["N", 3])], ["y"], constants)))


def type_of(document: Any, name: str) -> list[Any]:
    found: list[Any] = next(t for t in document["types"] if t[0] == name)
    return found


def deep(depth: int) -> Any:
    dim: Any = "N"
    for _ in range(depth):
        dim = ["//", [[1, dim], [1]], 2]
    return [[1, dim]]


LIES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "negative dim": (lambda d: type_of(d, "x")[2].__setitem__(1, -5), "impossible shape|-5"),
    "dim of 2^62": (lambda d: type_of(d, "x")[2].__setitem__(1, 2**62), "more than 2.62 bytes"),
    "dim of 2^70": (lambda d: type_of(d, "x")[2].__setitem__(1, 2**70), "integer of 64 bits"),
    "dim that is true": (lambda d: type_of(d, "x")[2].__setitem__(1, True), "integer of 64 bits"),
    "dim that is real": (lambda d: type_of(d, "x")[2].__setitem__(1, 3.0), "integer of 64 bits"),
    "dim that is text": (lambda d: type_of(d, "x")[2].__setitem__(1, "N"), "integer of 64 bits"),
    "dim that may be negative": (
        lambda d: type_of(d, "x")[2].__setitem__(0, [[1, "N"], [-5]]),
        "impossible size N - 5",
    ),
    "dim of a result": (
        lambda d: type_of(d, "x")[2].__setitem__(0, [[1, "y:0:0"]]),
        "only the run tells",
    ),
    "dim that explodes": (
        lambda d: type_of(d, "x")[2].__setitem__(
            0, [[1, *[["//", [[1, f"a{k}"], [1]], 1] for k in range(40)]]]
        ),
        "expressions of .* terms",
    ),
    "unknown function of dims": (
        lambda d: type_of(d, "x")[2].__setitem__(0, [[1, ["pow", 2, 3]]]),
        "product, //, min, max or broadcast",
    ),
    "quotient of three": (
        lambda d: type_of(d, "x")[2].__setitem__(0, [[1, ["//", 4, 2, 2]]]),
        "an operation on two dims",
    ),
    "rank 1000": (lambda d: type_of(d, "x").__setitem__(2, [1] * 1000), "1000 axes"),
    "unknown dtype": (lambda d: type_of(d, "x").__setitem__(1, "complex64"), "one of float"),
    "dtype that is a list": (lambda d: type_of(d, "x").__setitem__(1, ["float"]), "one of float"),
    "value of another size": (lambda d: type_of(d, "x").append([1, 2]), "2 known elements"),
    "input of another dtype": (lambda d: type_of(d, "x").__setitem__(1, "double"), "'sum'"),
    "result of another dtype": (
        lambda d: type_of(d, "m").__setitem__(1, "double"),
        "writes float.*typed double",
    ),
    "result of another shape": (
        lambda d: type_of(d, "m")[2].__setitem__(1, 7),
        r"writes float\[N, 3\].*typed float\[N, 7\]",
    ),
    "constant of another shape": (
        lambda d: type_of(d, "w").__setitem__(2, [4]),
        "expected 4 elements",
    ),
    "constant of another dtype": (
        lambda d: type_of(d, "w").__setitem__(1, "int32"),
        "expected branch.*int32.*found float32",
    ),
    "constant without a type": (
        lambda d: d["constants"][0].update(name="v"),
        "constant without a type",
    ),
    "the same constant twice": (
        lambda d: d["constants"].append(d["constants"][0]),
        "there twice",
    ),
    "one constant too many": (
        lambda d: d["constants"].append({"name": "m", "checksum": ""}),
        "no TTree",
    ),
    "missing constant": (lambda d: d["constants"].pop(), "before it is written"),
    "constant with the name of an input": (
        lambda d: d.update(inputs=["x", "w"]),
        "'w'.*written twice",
    ),
    "damaged constant": (lambda d: d["constants"][0].update(checksum="0" * 16), "checksum"),
    "cycle": (lambda d: d["nodes"][0].update(inputs=["y", "w"]), "'sum'.*before it is written"),
    "own result": (
        lambda d: d["nodes"][0].update(inputs=["m", "w"]),
        "'sum'.*before it is written",
    ),
    "wrong order": (lambda d: d["nodes"].reverse(), "'twice'.*before it is written"),
    "written twice": (lambda d: d["nodes"][1].update(outputs=["m"]), "'m'.*written twice"),
    "overwrites an input": (lambda d: d["nodes"][1].update(outputs=["x"]), "'x'.*written twice"),
    "two inputs of one name": (lambda d: d.update(inputs=["x", "x"]), "'x'.*written twice"),
    "two outputs of one name": (
        lambda d: d["outputs"].append(["y", "m"]),
        "'y' stands there twice",
    ),
    "two types of one name": (lambda d: d["types"].append(d["types"][0]), "stands there twice"),
    "output of nothing": (lambda d: d["outputs"][0].__setitem__(1, "z"), "never written"),
    "input without a type": (lambda d: d.update(inputs=["x", "z"]), "'z'.*has no type"),
    "omitted input that is needed": (lambda d: d["nodes"][0].update(inputs=["x", None]), "'sum'"),
    "too many inputs": (lambda d: d["nodes"][0].update(inputs=["x"] * 9), "'sum'"),
    "too many outputs": (lambda d: d["nodes"][0].update(outputs=["m", None, None]), "'sum'"),
    "no outputs": (
        lambda d: d["nodes"].append(d["nodes"][0] | {"outputs": []}),
        "'sum'.*has no outputs",
    ),
    "no format": (lambda d: d.pop("format"), "lacks 'format'"),
    "newer format": (lambda d: d.update(format=99), "version 99"),
    "format that is text": (lambda d: d.update(format="1"), "version '1'"),
    "no nodes": (lambda d: d.pop("nodes"), "lacks 'nodes'"),
    "nodes that are text": (lambda d: d.update(nodes="none"), "'nodes' must be a list"),
    "node that is a number": (lambda d: d["nodes"].append(5), "damaged"),
    "name that is no UTF-8": (lambda d: d["nodes"][0].update(name="\ud800"), "surrogates"),
}


@pytest.mark.parametrize(("change", "message"), LIES.values(), ids=LIES)
def test_descriptions_that_lie(change: Callable[[Any], Any], message: str, tmp_path: Path) -> None:
    stored = chain()
    document = stored.document | {"format": 1, "producer": "test"}
    change(document)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    document["checksum"] = xxhash.xxh64_hexdigest(text.encode())
    path = tmp_path / "m.root"
    with uproot.recreate(path) as file:
        file["sofie_ir"] = json.dumps(document)
        for k, array in enumerate(stored.arrays):
            tree = file.mktree(f"w/t{k}", {"data": array.dtype})
            tree.extend({"data": array.ravel()})
    with pytest.raises(SofieError, match=message) as caught:
        sofie_root.load(path)
    assert caught.value.file == str(path)


def test_a_chain_that_is_told_rightly_is_accepted() -> None:
    stored = chain()
    assert stored.header(stored.document) is not None


def test_deep_dims() -> None:
    stored = chain()
    type_of(stored.document, "x")[2][0] = deep(10)
    root_file.graph_of(stored.document, stored.read)
    type_of(stored.document, "x")[2][0] = deep(100)
    root_file.graph_of(stored.document, stored.read)
    type_of(stored.document, "x")[2][0] = deep(1000)
    with pytest.raises(SofieError), stage():
        root_file.graph_of(stored.document, stored.read)


def test_bodies_are_verified() -> None:
    stored = Stored(control().graph)
    bodies = [p for p in places(stored.document) if p and p[-1] == "graph"]
    assert len(bodies) > 1
    for place in bodies:
        changes: list[Callable[[Any], Any]] = [
            lambda g: g["nodes"][0].update(inputs=["nowhere"] * len(g["nodes"][0]["inputs"])),
            lambda g: g["nodes"][0].update(outputs=[g["inputs"][0]]),
            lambda g: g["outputs"][0].__setitem__(1, "nowhere"),
            lambda g: g["inputs"].append("nowhere"),
            lambda g: g["inputs"].append(g["inputs"][0]),
            lambda g: g["elements"].update(nowhere="00"),
        ]
        for change in changes:
            document = copy.deepcopy(stored.document)
            change(get(document, place))
            with pytest.raises(SofieError):
                root_file.graph_of(document, stored.read)


def test_bools_are_0_or_1() -> None:
    """Anything else is no bool in C++, whatever Python makes of it."""
    with pytest.raises(StorageError, match="0 or 1"):
        description.decode_attribute({"dtype": "bool", "bytes": "02"})


# -- what uproot would do with a hostile file ----------------------------------------------------------


def test_classes_that_a_file_describes_are_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uproot turns the descriptions of unknown classes into Python code; here no file gets that far."""
    path = control().save(tmp_path / "m.root")
    data = path.read_bytes()
    assert b"TObjString" in data
    path.write_bytes(data.replace(b"TObjString", b"TObjStrinG"))

    asked = []
    kept = uproot.reading.ReadOnlyFile.streamers.fget
    spy = property(lambda file: asked.append(file) or kept(file))
    monkeypatch.setattr(uproot.reading.ReadOnlyFile, "streamers", spy)
    with uproot.open(path) as file, contextlib.suppress(Exception):
        str(file["sofie_ir"])
    assert asked  # so the file is one that could
    asked.clear()
    with pytest.raises(StorageError, match=r"m\.root"):
        sofie_root.load(path)
    assert not asked


def test_files_that_claim_to_be_the_same_are_not_mixed_up(tmp_path: Path) -> None:
    """uproot caches objects by an identifier that the file itself states."""
    paths = [
        mlp(sizes, name=f"m{k}").save(tmp_path / f"m{k}.root")
        for k, sizes in enumerate(((3, 2), (5, 4)))
    ]
    with uproot.open(paths[0]) as first:
        uuid = first.file.fUUID
    with uproot.open(paths[1]) as second:
        data = paths[1].read_bytes()
        assert second.file.fUUID in data
        paths[1].write_bytes(data.replace(second.file.fUUID, uuid))
    first_, second_ = (sofie_root.load(p) for p in paths)
    assert (first_.inputs["x"].shape[-1], second_.inputs["x"].shape[-1]) == (3, 5)
