"""Imports point one way, and ROOT and onnx stay where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sofie_root"

ORDER = (
    ("errors",),
    ("config", "budget"),
    ("ir",),
    ("program",),
    ("ops",),
    ("build",),
    ("passes", "storage", "meanings", "accuracy"),
    ("frontends",),
    ("samples",),
    ("schedule",),
    ("targets",),
    ("runtime",),
    ("check_report",),
    ("check",),
    ("model",),
    ("__init__",),
    ("cli",),
)
"""A part of the package imports from the lines above its own only; annotations may name anything."""

LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}

EXTERNAL = {"ROOT": {"storage", "runtime"}, "onnx": {"frontends", "ops"}}
"""Where each library may be imported."""


@dataclass(frozen=True)
class Import:
    """One import statement: where it stands, what it names, and whether a function runs it."""

    part: str
    module: str
    place: str
    lazy: bool

    @property
    def target(self) -> str | None:
        """The part of sofie_root that is imported; None for another library."""
        root, *rest = self.module.split(".")
        return (rest[0] if rest else "__init__") if root == "sofie_root" else None


def imports(source: str, module: str, is_package: bool) -> Iterator[Import]:
    """Every import of a module but those that only annotations need."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    part = [*module.split("."), "__init__"][1]

    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            for name in _names(child, package):
                yield Import(part, name, f"{module}:{getattr(child, 'lineno', 0)}", lazy)
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from visit(child, lazy or is_function)

    yield from visit(ast.parse(source), False)


def _names(node: ast.AST, package: list[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = package[: len(package) - node.level + 1] if node.level else []
    base += node.module.split(".") if node.module else []
    # `from . import x` of the whole package names parts, not one module.
    return [".".join([*base, a.name]) for a in node.names] if len(base) == 1 else [".".join(base)]


def every_import() -> list[Import]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["sofie_root", *path.relative_to(PACKAGE).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        found += imports(path.read_text(), module, is_package)
    return found


IMPORTS = every_import()


def test_every_part_has_a_place() -> None:
    parts = {p.stem for p in PACKAGE.glob("*.py")}
    parts |= {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert parts - {"include", "cmake"} == set(LEVEL)


def test_imports_point_one_way() -> None:
    wrong = [
        f"{i.place} imports {i.module}"
        for i in IMPORTS
        if i.target is not None and i.target != i.part and LEVEL[i.target] >= LEVEL[i.part]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_only_the_table_of_targets_imports_a_target(target: str) -> None:
    package = f"sofie_root.targets.{target}"
    users = {
        i.place.split(":")[0]
        for i in IMPORTS
        if f"{i.module}.".startswith(f"{package}.") and not i.place.startswith(package)
    }
    assert users == {"sofie_root.targets"}


def test_what_is_for_every_target_imports_none() -> None:
    free = ("ops", "passes", "program", "schedule")
    wrong = [
        f"{i.place} imports {i.module}" for i in IMPORTS if i.part in free and i.target == "targets"
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", EXTERNAL)
def test_libraries_stay_where_they_belong(library: str) -> None:
    users = [i for i in IMPORTS if i.module.split(".")[0] == library]
    wrong = [i.place for i in users if i.part not in EXTERNAL[library]]
    assert not wrong, "\n".join(wrong)
    assert users


def test_root_is_imported_when_it_is_needed_and_not_before() -> None:
    eager = [i.place for i in IMPORTS if i.module.split(".")[0] == "ROOT" and not i.lazy]
    assert not eager, "\n".join(eager)


def test_importing_sofie_root_imports_little() -> None:
    code = "import sys, sofie_root; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    loaded = set(done.stdout.split())
    assert "sofie_root.runtime.interpreter" in loaded  # it sets cling's flags
    assert not loaded & {"ROOT", "cppyy", "onnx", "uproot", "sofie_root.model", "rich"}


def test_the_walker_sees_what_it_should() -> None:
    source = (
        "import onnx.helper\nfrom . import ops\nfrom ..ir import x\nfrom .dim import y\n"
        "if TYPE_CHECKING:\n    from .. import model\n"
        "def f():\n    import ROOT\n"
    )
    found = [(i.module, i.lazy) for i in imports(source, "sofie_root.program.expr", False)]
    assert found == [
        ("onnx.helper", False),
        ("sofie_root.program", False),
        ("sofie_root.ir", False),
        ("sofie_root.program.dim", False),
        ("ROOT", True),
    ]
    (top,) = imports("from . import ops", "sofie_root.model", False)
    assert (top.part, top.target) == ("model", "ops")
