"""What will be printed runs in NumPy inside its arena, and every fault that is put into it is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import model as onnx_model
from onnx_models import node, tensor, value
from small_models import SMALL, attention, parsed, weight
from test_stages import assert_close
from test_zoo import EACH_NETWORK, Entry

from sofie_root.cli import main
from sofie_root.errors import BudgetError, SelfTestWarning, ValidationError
from sofie_root.ir import Graph
from sofie_root.model import Model, load
from sofie_root.passes import pipeline
from sofie_root.passes.rewrite import PassResult
from sofie_root.program.choice import Choice, default_choice
from sofie_root.program.nest import For, Nest
from sofie_root.program.program import Program
from sofie_root.program.statement import Loop
from sofie_root.schedule import schedule as scheduling
from sofie_root.schedule import validate as validation
from sofie_root.schedule.inline import Decisions
from sofie_root.schedule.memory import Plan, plan
from sofie_root.schedule.run import run, used_by
from sofie_root.schedule.schedule import Schedule, schedule
from sofie_root.schedule.validate import Expected, validate
from sofie_root.targets.cpu.target import CPU, Cpu

CHOICES = ("auto", "always", "never")


def expected(model: Model) -> Expected:
    """What the model makes of its example."""
    example = model.example
    assert example is not None
    return Expected(model.graph, example.inputs, example.outputs)


def check(model: Model, changed: Schedule) -> None:
    validate(changed, model._optimised[0], expected(model))


def refusal(model: Model, changed: Schedule) -> ValidationError:
    """Why a schedule does not compute what the model does."""
    with pytest.raises(ValidationError) as caught:
        check(model, changed)
    return caught.value


def softmaxes() -> Model:
    """Products, and nests with rows and registers, that depend on each other in one chain."""
    nodes = []
    last = "x"
    for k in range(4):
        nodes += [
            node("MatMul", [last, f"W{k}"], [f"m{k}"], name=f"product{k}"),
            node("Softmax", [f"m{k}"], [f"s{k}"], name=f"softmax{k}"),
            node("Add", [f"s{k}", f"m{k}"], [f"a{k}"], name=f"add{k}"),
        ]
        last = f"a{k}"
    tensors = [tensor(f"W{k}", 3 * weight(6, 6, start=k)) for k in range(4)]
    return parsed(
        onnx_model(nodes, [value("x", ("N", 6))], [value("a3", ("N", 6))], tensors), "softmaxes"
    )


MODELS = {**SMALL, "attention": attention, "softmaxes": softmaxes}


@pytest.mark.parametrize("name", MODELS)
def test_small_models(name: str) -> None:
    model = MODELS[name]()
    for mode in CHOICES:
        check(model, schedule(model._optimised[0], CPU, Choice(mode)))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("entry", EACH_NETWORK)
def test_zoo(entry: Entry) -> None:
    model = load(entry.path)
    inputs, outputs = next(entry.sets())
    found = run(model.schedule, inputs)
    for name, right in zip(found, outputs.values(), strict=True):
        assert_close(found[name], right, entry.tolerance, name)


# -- faults that are put into a schedule -------------------------------------------------------------------


def meets(changed: Plan, original: Schedule, sizes: dict[str, int]) -> bool:
    """Whether two temporaries that are needed at once lie in the same bytes."""
    lifetimes = [
        t
        for t in scheduling._lifetimes(original.program, original.steps, original.scratch)
        if t.buffer.name in changed.offsets
    ]
    places, _ = changed.places(lambda s: sizes[s.name])
    length = Plan({}, 0, 0)._values(lambda s: sizes[s.name])
    spans = [
        (places[t.buffer.name], length(t.buffer.numel) * t.buffer.dtype.size) for t in lifetimes
    ]
    return any(
        a.meets(b) and start < other + n and other < start + count
        for k, (a, (start, count)) in enumerate(zip(lifetimes, spans, strict=True))
        for b, (other, n) in zip(lifetimes[:k], spans[:k], strict=True)
    )


@pytest.mark.parametrize("name", ["softmaxes", "cnn", "attention", "rnn"])
def test_a_lifetime_that_is_too_short_is_seen(name: str) -> None:
    model = MODELS[name]()
    original = model.schedule
    example = model.example
    assert example is not None
    lifetimes = scheduling._lifetimes(original.program, original.steps, original.scratch)
    seen = 0
    for k, t in enumerate(lifetimes):
        if t.last == t.first:
            continue
        for end in (t.first, t.last - 1):
            short = [*lifetimes[:k], replace(t, last=end), *lifetimes[k + 1 :]]
            changed = plan(short, set(original.symbols))
            if meets(changed, original, example.dims):
                error = refusal(model, replace(original, plan=changed))
                assert error.tensor in original.program.buffers
                assert "arena" in str(error)
                seen += 1
    assert seen or name == "rnn"


def test_steps_in_another_order_are_seen() -> None:
    model = softmaxes()
    original = model.schedule
    for k in range(len(original.steps) - 1):
        steps = list(original.steps)
        steps[k : k + 2] = reversed(steps[k : k + 2])
        changed = replace(original, steps=steps)
        assert f"step {k + 1} of " in refusal(model, changed).stage
        assert refusal(model, changed).tensor in used_by(changed, k)


def without_leaf(body: list[Any], position: int) -> list[Any]:
    """The loops of a nest but one."""
    result: list[Any] = []
    for item in body:
        size = 1 if isinstance(item, Loop) else sum(1 for _ in Nest([item]).loops())
        if isinstance(item, Loop):
            result += [] if position == 0 else [item]
        else:
            inner = without_leaf(item.body, position) if 0 <= position < size else item.body
            item.body[:] = inner
            result.append(item)
        position -= size
    return result


@pytest.mark.parametrize("name", ["softmaxes", "mlp", "attention"])
def test_a_write_that_is_left_out_is_seen(name: str) -> None:
    count = sum(len(s.loops()) for s in MODELS[name]().schedule.steps if isinstance(s, Nest))
    for position in range(count):
        model = MODELS[name]()
        nests = [s for s in model.schedule.steps if isinstance(s, Nest)]
        rest = position
        for nest in nests:
            if rest < len(nest.loops()):
                nest.body = without_leaf(nest.body, rest)
                break
            rest -= len(nest.loops())
        error = refusal(model, model.schedule)
        assert "arena" in str(error)
        assert error.tensor


def test_a_row_that_is_read_before_it_is_written_is_seen() -> None:
    model = softmaxes()
    (nest, *_) = (s for s in model.schedule.steps if isinstance(s, Nest))
    (loop,) = nest.body
    assert isinstance(loop, For)
    loop.body.reverse()
    assert refusal(model, model.schedule).node


def test_workspaces_have_their_own_bytes() -> None:
    model = attention()
    original = model.schedule
    name = next(names[0] for names in original.scratch.values())
    (k,) = (k for k in range(len(original.steps)) if name in used_by(original, k))
    other = next(n for n in used_by(original, k) if n in original.plan.offsets and n != name)
    offsets = {**original.plan.offsets, name: original.plan.offsets[other]}
    error = refusal(model, replace(original, plan=replace(original.plan, offsets=offsets)))
    assert error.stage == "the plan of the arena"
    assert error.tensor in (name, other)


def spoil(program: Program, decisions: Decisions) -> None:
    """A stage that forgets the last term of every sum."""
    for k, s in enumerate(program.statements):
        if isinstance(s, Loop) and s.reduction is not None and s.reduction.kind == "sum":
            program.statements[k] = replace(s, body=s.body * 0.75)


def test_the_stage_is_named() -> None:
    class Spoiled(Cpu):
        stages = (*Cpu.stages[:7], spoil, *Cpu.stages[7:])

    model = softmaxes()
    error = refusal(model, schedule(model._optimised[0], Spoiled()))
    assert error.stage == "spoil"
    assert error.tensor is not None
    assert error.tensor.startswith("s0")
    assert "report it" in str(error)


def test_the_pass_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def halve_constants(graph: Graph) -> PassResult:
        changed = graph.copy()
        changed.constants = {n: 0.5 * a for n, a in graph.constants.items()}  # type: ignore[misc]
        return PassResult(changed)

    passes = (*pipeline.PASSES[:3], halve_constants, *pipeline.PASSES[3:])
    monkeypatch.setattr(pipeline, "PASSES", passes)
    monkeypatch.setattr(validation, "PASSES", passes)
    monkeypatch.setattr(pipeline, "MAX_ROUNDS", 1)
    model = softmaxes()
    error = refusal(model, model.schedule)
    assert error.stage == "the pass halve_constants"
    assert error.tensor == "a3"


def test_rounding_is_no_fault() -> None:
    """A model that amplifies the last bits of its inputs: the results of both ways differ, both are right."""
    model = softmaxes()
    right = expected(model)
    with np.errstate(all="ignore"):
        shaken = {n: a * (1 + 1e-7) for n, a in right.outputs.items()}
    assert right.differing({n: a.astype(np.float32) for n, a in shaken.items()}) is None
    assert right.differing({n: a * np.float32(1.01) for n, a in right.outputs.items()}) == "a3"


# -- before a header is written ----------------------------------------------------------------------------


def spoiled(model: Model, exact: bool = False) -> Model:
    """The model with a schedule whose first two steps are swapped."""
    choice = default_choice(exact)
    right = model.scheduled(choice)
    model._schedules[choice, "cpu"] = replace(
        right, steps=[right.steps[1], right.steps[0], *right.steps[2:]]
    )
    return model


def test_a_wrong_header_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="step 1 of"):
        spoiled(softmaxes()).generate(tmp_path / "m.hxx")
    with pytest.raises(ValidationError, match="step 1 of"):
        spoiled(softmaxes(), True).generate(tmp_path / "m.hxx", exact=True)
    assert not list(tmp_path.iterdir())
    assert spoiled(softmaxes()).generate(tmp_path / "m.hxx", verify=False).exists()


def unlucky() -> Model:
    """No random index is 1000."""
    nodes = [node("Sub", ["i", "offset"], ["at"]), node("Gather", ["x", "at"], ["y"])]
    inputs = [value("x", [4]), value("i", ["N"], np.int64)]
    return parsed(onnx_model(nodes, inputs, ["y"], [tensor("offset", np.array(1000))]), "unlucky")


def test_a_model_without_an_example_is_written_and_says_so(tmp_path: Path) -> None:
    with pytest.warns(SelfTestWarning, match=r"'unlucky' is written without validation.*index"):
        assert unlucky().generate(tmp_path / "m.hxx").exists()


def test_a_run_that_costs_too_much_is_no_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise BudgetError("memory", 10, 5)

    monkeypatch.setattr("sofie_root.model.validate", fail)
    with pytest.warns(SelfTestWarning, match="budget of memory"):
        assert softmaxes().generate(tmp_path / "m.hxx").exists()


def test_convert_compares_and_compiles_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a compiler that works it says so, and how to do without; nothing is written."""
    source, header = softmaxes().save(tmp_path / "m.root"), tmp_path / "m.hxx"
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("SOFIE_ROOT_CACHE", str(tmp_path / "cache"))
    assert main(["convert", str(source), "-o", str(header)]) == 1
    message = capsys.readouterr().err
    assert "false cannot" in message
    assert "--no-verify" in message
    assert not header.exists()
    assert main(["convert", str(source), "-o", str(header), "--no-verify"]) == 0
    assert header.exists()
    header.unlink()
    monkeypatch.setenv("CXX", "no such program")
    monkeypatch.setattr("sofie_root.model.load", lambda *_, **__: spoiled(load(source)))
    assert main(["convert", str(source), "-o", str(header)]) == 1
    assert "ValidationError" not in (message := capsys.readouterr().err)
    assert "step 1 of" in message
    assert not header.exists()
