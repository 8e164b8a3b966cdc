"""The documents are true: what they name exists, their code runs, their texts are what is printed."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from io import StringIO
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import sofie_root
import sofie_root.errors
from sofie_root.ir import OPERATORS
from sofie_root.passes import optimise
from sofie_root.program.lower import lower
from sofie_root.schedule.inline import Decisions
from sofie_root.schedule.schedule import schedule
from sofie_root.targets import find_target

ROOT = Path(__file__).parents[1]
HISTORY = ROOT / "CHANGELOG.md"
"""It names what was, and is gone."""

PAGES = sorted(
    p.relative_to(ROOT) for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")) if p != HISTORY
)
SOURCES = sorted(
    p.relative_to(ROOT)
    for folder, pattern in (
        ("sofie_root", "*.py"),
        ("rootbench", "*.py"),
        ("tutorials", "*.py"),
        ("cpp", "*.?xx"),
        ("cpp", "*.?pp"),
    )
    for p in (ROOT / folder).rglob(pattern)
    if ROOT / "rootbench" / "results"
    not in p.parents  # `rootbench compare` keeps old revisions there
)
SETTINGS = [
    Path(n) for n in (".ci/run", "Makefile", "environment.yml", "mkdocs.yml", "pyproject.toml")
]

FILE = re.compile(r"(?<![\w/.*<{$-])(?:[\w-]+/)*[\w-]+\.(?:py|hxx|hpp|cpp|md|C)\b(?![\w(])")
"""What looks like a file of the project: generated headers and models of users are below."""

OF_USERS = {
    "exact.hxx",
    "m.hxx",
    "model.hxx",
    "my_operators.py",
    "op.hxx",
    "ops.py",
    "plain.hxx",
    "scale.hxx",
    "tagger.hxx",
}
"""Names of files in examples; users have them, and the project does not."""

NO_PYTHON = {"sofie_root.checksums"}
"""Files whose names look like names of Python."""

WRITTEN = {"tutorials/output/tagger.png"}
"""What commands write, and git does not have."""


@cache
def files() -> frozenset[str]:
    """Every file of the project, and each end of its path: ``sofie/core/half.hxx``, ``half.hxx``."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    paths = [Path(p) for p in listed] or [p.relative_to(ROOT) for p in ROOT.rglob("*.*")]
    ends = ("/".join(p.parts[k:]) for p in paths for k in range(len(p.parts)))
    return frozenset(ends)


def without_code(text: str) -> str:
    """A page without its blocks of code, which have names of users' files in them."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def texts(path: Path) -> Iterator[str]:
    """What people read in a file: a page, settings, docstrings and comments."""
    text = (ROOT / path).read_text()
    if path.suffix == ".md":
        yield without_code(text)
    elif path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                yield str(node.value.value)
        yield "\n".join(re.findall(r"#.*", text))
    elif path in SETTINGS:
        yield text
    else:
        yield "\n".join(re.findall(r"//.*", text))


def test_files_that_are_named_exist() -> None:
    known = files() | OF_USERS
    named = {
        (name, path)
        for path in (*PAGES, *SOURCES, *SETTINGS)
        for text in texts(path)
        for name in FILE.findall(text)
    }
    assert len(named) > 100
    assert not sorted(f"{path} names {name}" for name, path in named if name not in known)


def test_folders_and_links_lead_somewhere() -> None:
    folder = re.compile(r"`((?:sofie_root|cpp|tests|docs|rootbench|tutorials)(?:/[\w.-]+)*)/?`")
    link = re.compile(r"\]\((?!https?:|#)([^)#]+)")
    wrong = []
    for path in PAGES:
        text = without_code((ROOT / path).read_text())
        wrong += [
            f"{path}: {n}"
            for n in folder.findall(text)
            if not (ROOT / n).exists() and n not in WRITTEN
        ]
        wrong += [
            f"{path}: {n}"
            for n in link.findall(text)
            if not (ROOT / path).parent.joinpath(n).exists()
        ]
    assert not wrong


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            value: Any = import_module(".".join(parts[:k]))
        except ImportError:
            continue
        for attribute in parts[k:]:
            fields = getattr(value, "__dataclass_fields__", {})
            if not hasattr(value, attribute) and attribute not in fields:
                return False
            value = getattr(value, attribute, None)
        return True
    return False


def test_names_of_python_exist() -> None:
    pattern = re.compile(r"(?:`~?|^::: )(sofie_root(?:\.\w+)+)(?!-)", re.MULTILINE)
    paths = [*PAGES, *(p for p in SOURCES if p.suffix == ".py")]
    named = {
        (name, path) for path in paths for text in texts(path) for name in pattern.findall(text)
    }
    assert len(named) > 50
    others = NO_PYTHON | {f"{domain}.{name}" for domain, name in OPERATORS}
    missing = {name for name, _ in named if name not in others and not resolves(name)}
    assert not sorted(f"{path} names {name}" for name, path in named if name in missing)


def test_every_public_name_is_in_the_reference() -> None:
    page = (ROOT / "docs/api/index.md").read_text()
    objects = re.findall(r"^::: (\S+)", page, re.MULTILINE)
    last = {name.rpartition(".")[2] for name in objects}
    errors = {name for name in dir(sofie_root.errors) if "sofie_root.errors" in objects}
    assert not set(sofie_root.__all__) - last - errors - {"__version__"}


def test_the_pages_of_the_site_exist() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("nav:")[2]
    pages = {f"docs/{name}" for name in re.findall(r": (\S+\.md)", nav)}
    assert pages == {str(p) for p in PAGES if p.parts[0] == "docs"}


def test_the_readme_counts_as_operators_md_does() -> None:
    passed, total, wrong = re.findall(
        r"(\d+) of (\d+) cases pass, \d+ are refused[\w ]+, (\d+) are\s+wrong",
        (ROOT / "docs/operators.md").read_text(),
    )[0]
    readme = " ".join((ROOT / "README.md").read_text().split())
    said = (
        f"{int(passed):,} of ONNX's {int(total):,} backend tests pass and none gives a wrong number"
    )
    assert said in readme
    assert int(wrong) == 0


def test_what_is_wrong_is_seen() -> None:
    found = FILE.findall("see core/half.hxx, `gone/away.py` and DESIGN.md, not x.root or (*.hxx)")
    assert found == ["core/half.hxx", "gone/away.py", "DESIGN.md"]
    assert "core/half.hxx" in files()
    assert "gone/away.py" not in files()
    assert resolves("sofie_root.program.lower.lower")
    assert not resolves("sofie_root.program.lower.higher")
    assert not resolves("sofie_root.nowhere")


# -- code in pages -----------------------------------------------------------------------------------------

BLOCK = re.compile(
    r"^(?: *(<!-- not run)[^\n]*-->\n+)?^( *)```(?:python|py)\n(.*?)^\2```",
    re.MULTILINE | re.DOTALL,
)


def blocks(path: Path) -> list[tuple[bool, str]]:
    """The Python blocks of a page, and whether each is to be run."""
    found = BLOCK.findall((ROOT / path).read_text())
    return [(not mark, dedent(code)) for mark, _, code in found]


def test_python_parses() -> None:
    for path in PAGES:
        for _, code in blocks(path):
            ast.parse(code, str(path))


@cache
def run(path: Path) -> dict[str, Any]:
    """Runs the blocks of a page one after the other; returns the names that they define."""
    names: dict[str, Any] = {}
    operators = dict(OPERATORS)
    with redirect_stdout(StringIO()):
        for is_run, code in blocks(path):
            if is_run:
                exec(compile(code, str(path), "exec"), names)
    OPERATORS.update(operators)  # a recipe registers an operator that there is
    return names


@pytest.mark.parametrize("name", ["architecture.md", "program.md", "contributing.md"])
def test_python_runs(name: str) -> None:
    assert "sofie_root" in run(Path("docs", name))


# -- recipes -----------------------------------------------------------------------------------------------

RECIPES = {
    "Tan": {"sofie_root/ops/elementwise.py", "tests/operator_cases.py"},
    "Det|Determinant": {
        "sofie_root/program/operations/linalg.py",
        "sofie_root/ops/linalg.py",
        "sofie_root/targets/cxx/kernels/linalg.py",
        "tests/operator_cases_image.py",
    },
}
"""Files that contributing.md names for an operator, by the names of the operator and its operation."""


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_every_file_that_knows_its_operator(name: str) -> None:
    pattern = re.compile(rf"(?<!\w)(?:{name})(?!\w)")
    knowing = {
        str(p.relative_to(ROOT))
        for p in (*ROOT.glob("sofie_root/**/*.py"), *ROOT.glob("tests/operator_cases*.py"))
        if pattern.search(p.read_text())
    }
    assert knowing == RECIPES[name]
    page = (ROOT / "docs/contributing.md").read_text()
    assert not [path for path in knowing if f"`{path}`" not in page]


# -- texts that the code prints ----------------------------------------------------------------------------

ARCHITECTURE = Path("docs/architecture.md")
TEXT = re.compile(r"(<!-- text: (\w+) -->\n\n```)(\w+)\n(.*?)(?=^```)", re.MULTILINE | re.DOTALL)


def inner_part(header: str) -> str:
    """The body of ``infer_to``."""
    lines = header.splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("  void infer_to("))
    return "\n".join(lines[first : lines.index("  }", first) + 1])


def printed() -> dict[str, str]:
    """The texts of the model in architecture.md, by the names that stand before them."""
    model = run(ARCHITECTURE)["model"]
    cpu = find_target("cpu")
    graph, _ = optimise(model.graph)
    program = lower(graph, forms=cpu)
    found = {"graph": str(model.graph), "optimised": str(graph), "lower": str(program)}
    busy, before = [], str(program)
    for stage in cpu.stages:
        stage(program, Decisions())
        if str(program) != before:
            busy.append(stage.__name__)
            found.setdefault(stage.__name__, str(program))
        before = str(program)
    found["stages"] = "\n".join(busy)
    found["schedule"] = str(schedule(graph, cpu))
    for target in ("cpu", "reference"):
        found[target] = inner_part(model.header(standalone=False, target=target).text)
    return found


@pytest.mark.parametrize("name", ["architecture.md", "program.md"])
def test_texts_are_what_the_code_prints(name: str, update_golden: bool) -> None:
    """After a change that is meant: ``pytest tests/test_docs.py --update-golden``."""
    path = Path("docs", name)
    expected = printed() if path == ARCHITECTURE else run(path)
    page = (ROOT / path).read_text()
    shown = {name: text for _, name, _, text in TEXT.findall(page)}
    assert len(shown) == page.count("<!-- text: ") > 0
    if update_golden:
        (ROOT / path).write_text(
            TEXT.sub(lambda m: f"{m[1]}{m[3]}\n{expected[m[2]].rstrip()}\n", page)
        )
    else:
        assert shown == {name: f"{expected[name].rstrip()}\n" for name in shown}
