"""``load`` and ``Model``: a trained network, ready to be looked at, stored, printed as C++ and run."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from .budget import Budget, stage
from .config import VERSION
from .errors import BudgetError, SelfTestWarning
from .frontends import frontend_of
from .ir import Graph, TensorType
from .ops.custom import without_reference
from .passes.pipeline import PassReport, optimise
from .program.choice import Choice, default_choice
from .program.interpret import interpret
from .program.lower import lower
from .program.program import Program
from .samples import Sample, find_example
from .schedule.schedule import Schedule, schedule
from .schedule.validate import Expected, validate
from .storage import weights as weights_file
from .storage.atomic import replacing
from .targets import find_target
from .targets.cxx import header as codegen
from .targets.cxx.names import identifier

if TYPE_CHECKING:
    from .check import Arrays, CheckReport
    from .runtime.dataframe import Columns
    from .runtime.profile import ProfileReport
    from .runtime.session import Session
    from .storage import root_file

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class InspectReport:
    """What was done to a model on its way to C++.

    Attributes:
        passes: what each pass changed and refused.
        schedule: the scheduled program; its text is what ``inspect -vv`` prints.
        symbols: names of the size symbols.
        arena: bytes of the arena as a number or an expression of the symbols.
        intermediates: sum of all temporaries in bytes, likewise.
        reuse: how often arena memory is used again, at typical sizes.
        weight_bytes: bytes of the packed constants.
    """

    passes: tuple[PassReport, ...]
    schedule: Schedule
    symbols: tuple[str, ...]
    arena: str
    intermediates: str
    reuse: float
    weight_bytes: int

    @property
    def fused(self) -> list[str]:
        """Loops that were joined with others, in words."""
        return [text for s in _all_schedules(self.schedule) for text in s.decisions.fused]

    @property
    def refused(self) -> list[str]:
        """Loops that were not joined, with the reason."""
        return [text for s in _all_schedules(self.schedule) for text in s.decisions.refused]


def _all_schedules(schedule: Schedule) -> Iterator[Schedule]:
    """A scheduled program and those of the bodies inside it."""
    yield schedule
    for bodies in schedule.bodies.values():
        for body in bodies:
            yield from _all_schedules(body)


@dataclass(frozen=True)
class Model:
    """A model as it was parsed; made by :func:`load`.

    Attributes:
        graph: the parsed graph, not yet optimised.
        path: the file it came from.
        budget: of work and memory of each stage: the passes, the scheduler, a run of the interpreter.
    """

    graph: Graph
    path: Path | None = None
    budget: Budget = field(default_factory=Budget.default)

    @property
    def name(self) -> str:
        """Name of the model: the stem of its file."""
        return self.graph.name

    @property
    def inputs(self) -> dict[str, TensorType]:
        """Dtype and shape of each input by name, in the model's order."""
        return {n: self.graph.types[n] for n in self.graph.inputs}

    @property
    def outputs(self) -> dict[str, TensorType]:
        """Dtype and shape of each output by name, in the model's order."""
        return {n: self.graph.types[v] for n, v in self.graph.outputs.items()}

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names of the size symbols: the leading arguments of the C++ ``infer``."""
        return tuple(s.name for s in self.graph.symbols())

    def __str__(self) -> str:
        rows = [("", "name", "type")]
        rows += [("input", n, str(t)) for n, t in self.inputs.items()]
        rows += [("output", n, str(t)) for n, t in self.outputs.items()]
        widths = [max(len(r[k]) for r in rows) for k in range(3)]
        table = [
            "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows
        ]
        weights = sum(a.size for a in self.graph.constants.values())
        counts: dict[str, int] = {}
        for node in self.graph.nodes:
            counts[node.op.name] = counts.get(node.op.name, 0) + 1
        operators = ", ".join(f"{k} x{v}" if v > 1 else k for k, v in sorted(counts.items()))
        return "\n".join(
            [
                f"{self.name}: {len(self.graph.nodes)} nodes, {weights} constant elements"
                + (f", symbols {', '.join(self.symbols)}" if self.symbols else ""),
                *table,
                f"operators: {operators or 'none'}",
            ]
        )

    @cached_property
    def _optimised(self) -> tuple[Graph, tuple[PassReport, ...]]:
        with stage(self.budget):
            graph, reports = optimise(self.graph)
        return graph, tuple(reports)

    @cached_property
    def _schedules(self) -> dict[tuple[Choice, str], Schedule]:
        return {}

    @property
    def schedule(self) -> Schedule:
        """The optimised, lowered and scheduled program."""
        return self.scheduled(default_choice())

    def scheduled(self, choice: Choice, target: str = "cpu") -> Schedule:
        """The same with other kernels, or for another target; each is made once.

        Raises:
            InputError: there is no target of this name.
        """
        if (choice, target) not in self._schedules:
            device, graph = find_target(target), self._optimised[0]
            with stage(self.budget):
                self._schedules[choice, target] = schedule(graph, device, choice)
        return self._schedules[choice, target]

    def report(self, target: str = "cpu") -> InspectReport:
        """What the passes and the scheduler did; for ``sofie-root inspect``."""
        scheduled = self.scheduled(default_choice(), target)
        plan = scheduled.plan
        return InspectReport(
            self._optimised[1],
            scheduled,
            self.symbols,
            str(plan.total),
            str(plan.intermediates),
            plan.reuse(),
            scheduled.weight_bytes,
        )

    def save(
        self, path: str | os.PathLike[str], compression: root_file.Compression = "zstd"
    ) -> Path:
        """Writes the model to a ``.root`` file (see ``docs/files.md`` for its layout).

        Args:
            path: the file to write; an existing one is replaced.
            compression: ``"zstd"``, ``"lzma"``, ``"lz4"``, ``"zlib"`` or ``"none"``.

        Returns:
            The path.
        """
        from .storage import root_file  # uproot takes a while to import

        root_file.save(self.graph, path, compression)
        return Path(path)

    def header(
        self,
        stem: str | None = None,
        weights: codegen.WeightsKind = "dat",
        standalone: bool = True,
        namespace: str | None = None,
        inline_user_code: bool | None = None,
        exact: bool = False,
        target: str = "cpu",
    ) -> codegen.Header:
        """The C++ header as text, with the constants that belong to it; writes nothing."""
        source = str(self.graph.metadata.get("source") or self.name)
        digest = self.graph.metadata.get("sha256")
        return codegen.generate(
            self.scheduled(default_choice(exact), target),
            stem=stem or identifier(self.name),
            weights=weights,
            standalone=standalone,
            version=VERSION,
            source=f"{source} (sha256 {digest})" if digest else source,
            namespace=namespace,
            inline_user_code=inline_user_code,
        )

    def generate(
        self,
        path: str | os.PathLike[str],
        weights: Literal["dat", "root", "embedded"] = "dat",
        standalone: bool = True,
        namespace: str | None = None,
        exact: bool = False,
        target: str = "cpu",
        verify: bool = True,
    ) -> Path:
        """Writes the C++ header, and its weights beside it.

        Before anything is written, what will be printed runs in NumPy on :attr:`example`, and is compared
        with what the operators mean.

        Args:
            path: the header, ``tagger.hxx``; the weights go to ``tagger.dat`` or ``tagger.root``.
            weights: a ``.dat`` file (fastest to open), a ``.root`` file (compressed; it holds the whole
                model too), or inside the header (no second file; for small models).
            standalone: one file that needs the standard library alone; else it includes
                ``<sofie/...>``, found through ``sofie-root config --incdir``.
            namespace: namespace of the Session; ``TMVA_SOFIE_`` and the file's stem if not given.
            exact: no algorithm that rounds more than direct summation does: no Winograd convolutions,
                which are faster and round up to five times more (see targets/cpu/kernels/winograd.py).
            target: what the code is for: ``"cpu"``, or ``"reference"`` for plain loops over scalars, which
                are slow and to be read and compared with.
            verify: compare before writing.

        Returns:
            The path of the header.

        Raises:
            InputError: there is no target of this name.
            ValidationError: what would be printed computes something else than the model does: a bug of
                sofie_root. Nothing is written.

        Warns:
            SelfTestWarning: no inputs were found that the model takes, so that nothing was compared.
        """
        written = Path(path)
        if verify:
            self._validate(exact, target)
        header = self.header(
            written.stem, weights, standalone, namespace, exact=exact, target=target
        )
        if header.constants and weights == "dat":
            weights_file.write_dat(written.with_suffix(".dat"), header.constants, header.model_hash)
        elif header.constants and weights == "root":
            image = weights_file.dat_bytes(header.constants, header.model_hash)
            from .storage import root_file

            root_file.save(self.graph, written.with_suffix(".root"), weights=image)
        with replacing(written) as temporary:
            temporary.write_text(header.text, encoding="utf-8")
        return written

    def _validate(self, exact: bool, target: str) -> None:
        """Compares the steps that are printed with the model, on its example."""
        example, reason = self.example, self.untested
        if example is not None:
            expected = Expected(self.graph, example.inputs, example.outputs)
            try:
                with stage(self.budget):
                    program = self.scheduled(default_choice(exact), target)
                    validate(program, self._optimised[0], expected)
            except BudgetError as error:
                reason = str(error)
        if reason:
            warnings.warn(
                f"{self.name!r} is written without validation, as it took none of the random inputs that "
                f"were tried ({reason}); compare it with model.check(inputs=...)",
                SelfTestWarning,
                stacklevel=3,
            )

    def session(
        self,
        jit: Literal["auto", "cling", "compiler"] = "auto",
        exact: bool = False,
        target: str = "cpu",
    ) -> Session:
        """Compiles the model and returns a callable that takes and gives NumPy arrays.

        Args:
            jit: ``"cling"`` compiles in memory through ROOT's gInterpreter; ``"compiler"`` uses the
                C++ compiler and keeps the result in the user's cache; ``"auto"`` takes what is there.
            exact: see :meth:`generate`.
            target: see :meth:`generate`.

        Raises:
            InputError: there is no target of this name.
            ToolchainError: the header could not be compiled or failed its self-test.
        """
        from .runtime.session import open_session

        return open_session(self, jit, exact, target)

    def profile(
        self,
        inputs: Arrays | None = None,
        dims: Mapping[str, int] | None = None,
        seconds: float = 1.0,
        exact: bool = False,
        target: str = "cpu",
    ) -> ProfileReport:
        """Measures where the time goes, step by step, in a build that takes the time of each.

        Args:
            inputs: arrays by name or position (``in0``), or an .npz file; random ones if not given.
            dims: sizes of symbolic dims of random inputs; those not given are drawn.
            seconds: for about how long calls are repeated; the times are medians.
            exact: see :meth:`generate`.
            target: see :meth:`generate`.

        Returns:
            The steps with their nodes, times, floating-point operations, bytes and shares of the roofline;
            ``print(report)`` shows a table, ``report.json()`` gives the same as JSON.

        Raises:
            ToolchainError: there is no C++ compiler, or it fails.
            InputError: the inputs do not fit.
        """
        from .check import read_arrays
        from .runtime.profile import profile

        given = None if inputs is None else read_arrays(inputs, tuple(self.inputs), "in")
        return profile(self, given, dims, seconds, exact, target)

    def check(
        self,
        reference: str = "auto",
        samples: int = 3,
        seed: int = 0,
        *,
        dims: Mapping[str, int] | None = None,
        inputs: Arrays | None = None,
        outputs: Arrays | None = None,
        events: Any = None,
        columns: Columns | None = None,
        **options: Any,
    ) -> CheckReport:
        """Runs inputs through the compiled model, and compares with a reference or stored results.

        Args:
            reference: ``"auto"`` is what the format of the model's file is compared with: ONNX Runtime
                for ONNX. ``"onnxruntime"`` asks for it, ``"interpreter"`` for our own NumPy evaluation.
            samples: how many random input sets.
            seed: of the random numbers.
            dims: sizes of symbolic dims of the random inputs; those not given are random.
            inputs: one input set instead: arrays by name or position (``in0``), or an .npz file.
            outputs: what is expected of ``inputs``, likewise, instead of a reference.
            events: a data frame whose first thousand events are the inputs instead.
            columns: its columns, as :func:`sofie_root.define` takes them.
            options: passed on to :func:`sofie_root.check.check`.

        Returns:
            The largest difference per output; ``report.ok`` says whether all are right, and whether
            they could have been wrong: an output that never changes is no success.
        """
        from .check import check

        return check(
            self,
            reference=reference,
            samples=samples,
            seed=seed,
            dims=dims,
            inputs=inputs,
            outputs=outputs,
            events=events,
            columns=columns,
            **options,
        )

    @property
    def example(self) -> Sample | None:
        """Small random inputs and what the NumPy interpreter makes of them, for the self-test.

        None where no inputs were found that the model takes (``untested`` says why), and where a
        custom operator has no reference.
        """
        return self._example[0]

    @property
    def untested(self) -> str:
        """Why no random inputs were found that the model takes; empty where some were, or none can be."""
        return self._example[1]

    @cached_property
    def _example(self) -> tuple[Sample | None, str]:
        if without_reference(self.graph):
            return None, ""
        lowered: list[Program] = []
        problems = ["no sizes of its symbolic dims were found that fit together"]

        def run(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
            try:
                if not lowered:
                    lowered.append(lower(self.graph))
                return interpret(lowered[0], inputs)
            except Exception as error:
                problems.append(str(error) or type(error).__name__)
                raise

        with stage(self.budget) as spent, spent.share(4):
            # Whatever goes wrong with random inputs is no reason not to open the model with real ones.
            found = find_example(self.graph, run)
        return found, "" if found is not None else problems[-1]


def load(
    path: str | os.PathLike[str],
    dims: Mapping[str, int] | None = None,
    budget: Budget | None = None,
) -> Model:
    """Reads a model.

    Args:
        path: an ``.onnx`` file, or a ``.root`` file that ``Model.save`` wrote; see
            :data:`sofie_root.frontends.FRONTENDS`.
        dims: sizes for symbolic dims, ``{"N": 1}``; the others stay symbolic.
        budget: work and memory that reading the model, optimising it and each run of the interpreter
            may take; if not given, that of ``$SOFIE_ROOT_BUDGET`` or the default one.

    Raises:
        ModelError: the file is damaged or not valid, or of a format that cannot be read.
        UnsupportedError: names every node that cannot be translated.
        BudgetError: reading it takes more than the budget.
    """
    file, budget = Path(path), budget or Budget.default()
    frontend = frontend_of(file)
    with stage(budget):
        return Model(frontend.read(file, dims or {}), file, budget)
