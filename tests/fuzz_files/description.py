"""Changes of the description in a ``.root`` file, and files around it."""

from __future__ import annotations

import copy
import io
import json
import random
from typing import Any

import numpy as np
import uproot
import xxhash
from json_places import Place, get, places

from sofie_root.ir import OPERATORS, DType, Graph
from sofie_root.storage import root_file
from sofie_root.storage.description import encode_graph

from .values import FLOATS, TEXTS, damaged, integer


def document_of(graph: Graph) -> dict[str, Any]:
    """The description of a graph, without its own checksum."""
    document: dict[str, Any] = json.loads(json.dumps(encode_graph(graph)))
    document |= {"format": 1, "producer": "fuzz"}
    document["constants"] = [
        {"name": name, "checksum": root_file.checksum(array)}
        for name, array in graph.constants.items()
    ]
    return document


def change(document: Any, rng: random.Random, other: Any) -> str:
    """Changes one place of a description; says which."""
    found = [p for p in places(document) if p]
    deep = [p for p in found if p[0] in ("nodes", "types", "equalities")]
    place = rng.choice(deep if deep and rng.random() < 0.7 else found or [()])
    if not place:
        return "nothing"
    around, key = get(document, place[:-1]), place[-1]
    old, kind = around[key], rng.randrange(12)
    if kind == 0:
        del around[key]
    elif kind == 1 and isinstance(around, list):
        around.insert(rng.randrange(len(around) + 1), copy.deepcopy(old))
    elif kind == 2 and isinstance(around, list) and len(around) > 1:
        rng.shuffle(around)
    elif kind == 3 and isinstance(around, dict):
        around[rng.choice([*TEXTS, *map(str, around)])] = around.pop(key)
    elif kind == 4:
        around[key] = copy.deepcopy(get(document, rng.choice(found)))
    elif kind == 5:
        around[key] = _taken(other, place, rng)
    elif key == "op" and kind < 10:
        around[key] = rng.choice(sorted(name for _, name in OPERATORS))
    elif isinstance(old, str) and kind < 10:
        around[key] = rng.choice([rng.choice(_texts(document)), rng.choice(TEXTS)])
    elif isinstance(old, (bool, int)) and kind < 10:
        around[key] = integer(rng, int(old))
    elif isinstance(old, float) and kind < 10:
        around[key] = rng.choice(FLOATS[:9])
    elif isinstance(old, list) and kind == 6:
        around[key] = old * rng.choice([2, 3, 50])
    else:
        around[key] = rng.choice(
            [None, True, [], {}, 0, -1, 1.5, "N", [[1, "N"]], [[1, ["//", [[1, "N"]], 2]]],
             [[1, ["min", [[1, "N"]], 3]], [2]], {"float": "nan"}, {"dtype": "float", "bytes": "0000803f"},
             integer(rng), rng.choice(TEXTS), [integer(rng), integer(rng)]]
        )  # fmt: skip
    return "/".join(map(str, place))


def _texts(document: Any) -> list[str]:
    return [v for p in places(document) if isinstance(v := get(document, p), str)] or [""]


def _taken(other: Any, place: Place, rng: random.Random) -> Any:
    """What stands in another description under the same key, or anywhere."""
    found = [p for p in places(other) if p]
    same = [p for p in found if p[-1] == place[-1]]
    return copy.deepcopy(get(other, rng.choice(same or found)))


DTYPES = [d.numpy for d in DType if d not in (DType.BOOL, DType.FLOAT16, DType.BFLOAT16)]
"""What a tree may hold."""


def trees_of(graph: Graph) -> list[np.ndarray]:
    """What the trees of a graph's constants hold."""
    return [root_file.raw(array) for array in graph.constants.values()]


def change_trees(trees: list[np.ndarray], rng: random.Random) -> str:
    """Changes the elements, their number or their type in one tree."""
    if not trees:
        return "no trees"
    at, kind = rng.randrange(len(trees)), rng.randrange(5)
    array = trees[at]
    if kind == 0:
        del trees[at]
    elif kind == 1:
        trees[at] = array[: rng.randrange(len(array) + 1)]
    elif kind == 2:
        trees[at] = np.concatenate([array, array])
    elif kind == 3:
        trees[at] = array.astype(rng.choice(DTYPES))
    elif array.size:
        data = damaged(rng, array.tobytes()).ljust(array.nbytes, b"\1")[: array.nbytes]
        trees[at] = np.frombuffer(data, array.dtype)
    return f"w/t{at}"


def container(document: Any, trees: list[np.ndarray], right_checksum: bool = True) -> bytes:
    """A file with this description and these trees."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    if isinstance(document, dict):
        stated = xxhash.xxh64_hexdigest(text.encode()) if right_checksum else "0" * 16
        text = json.dumps(document | {"checksum": stated}, sort_keys=True, separators=(",", ":"))
    return written(text, trees)


def written(text: str, trees: list[np.ndarray]) -> bytes:
    """A file with this text for a description."""
    stream = _Open()
    with uproot.recreate(stream, compression=uproot.ZSTD(1)) as file:
        file["sofie_ir"] = text
        for k, array in enumerate(trees):
            file.mktree(f"w/t{k}", {"data": array.dtype}).extend({"data": array})
    return stream.getvalue()


class _Open(io.BytesIO):
    """Stays open when uproot has written to it."""

    def close(self) -> None:
        pass
