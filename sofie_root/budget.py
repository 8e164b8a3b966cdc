"""What a model may cost before it runs: loading, the passes, constant folding and the interpreter.

A file of a few hundred bytes can ask for a loop of 10^9 iterations or for a tensor of 10^12 elements.
Each stage therefore has a budget of work and of memory, which is asked *before* memory is taken and
spent as work is done. Constant folding leaves a node that costs too much to the run time; where nothing
can be left, :class:`~sofie_root.errors.BudgetError` says what was wanted and how to allow it.

Work is counted in operations, not measured, so that a model that loads on one machine loads on all.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BudgetError, InputError, SofieError

VARIABLE = "SOFIE_ROOT_BUDGET"
"""Environment variable with the budget of everything that is not given another one."""

NODE = 100_000
"""Work of adding, typing or lowering a node, in the unit of :attr:`Budget.work`."""

STATEMENT = 20_000
"""Work of interpreting a statement, beside that on its elements."""

_FACTORS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_POWERS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits for one stage: reading a model, optimising it, or one run of the NumPy interpreter.

    Attributes:
        work: simple operations, of which a core does about 10^9 in a second. Adding a node counts as
            100,000 of them.
        memory: bytes held at once beyond those that the model's files hold on disk: dense copies of
            sparse tensors, folded constants, arrays of the interpreter.
    """

    work: int = 10_000_000_000
    memory: int = 2 << 30

    def __post_init__(self) -> None:
        for name, limit in (("work", self.work), ("memory", self.memory)):
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
                raise InputError(f"a budget's {name} is an integer >= 0, not {limit!r}")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """The budget that a text like ``"memory=8G,work=1e12"`` stands for.

        Numbers may end in k, M, G or T: powers of 1024 for memory, of 1000 for work. What is not named
        keeps its default.

        Raises:
            InputError: the text has another form.
        """
        given: dict[str, int] = {}
        for item in text.split(",") if text.strip() else []:
            name, _, number = (part.strip() for part in item.partition("="))
            if name not in ("work", "memory"):
                raise InputError(f"a budget is work=NUMBER,memory=BYTES, not {text!r}")
            given[name] = _number(number, _FACTORS if name == "memory" else _POWERS)
        return cls(**given)

    @classmethod
    def default(cls) -> Budget:
        """What ``$SOFIE_ROOT_BUDGET`` says, else the defaults of this class.

        Raises:
            InputError: the variable is no budget.
        """
        try:
            return cls.parse(os.environ.get(VARIABLE, ""))
        except InputError as error:
            raise InputError(f"${VARIABLE}: {error.message}") from None


def _number(text: str, factors: dict[str, int]) -> int:
    digits, factor = text, 1
    if text[-1:].lower() in factors:
        digits, factor = text[:-1], factors[text[-1:].lower()]
    try:
        value = float(digits) * factor
        return int(value)
    except (ValueError, OverflowError):
        raise InputError(f"{text!r} is no number, which a budget needs") from None


class Account:
    """What has been spent of a budget.

    Attributes:
        budget: the limits.
        work: operations spent so far.
        memory: bytes held now.
        given_up: names of nodes that turned out to cost too much, and are not to be tried again.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.given_up: set[str] = set()
        self.work = 0
        self.memory = 0
        self._most_work = budget.work

    def spend(self, work: int) -> None:
        """Takes work out of the budget.

        Raises:
            BudgetError: there is not so much left; nothing has been taken.
        """
        if self.work + work > self._most_work:
            raise BudgetError("work", self.work + work, self._most_work)
        self.work += work

    def reserve(self, size: int) -> None:
        """Asks whether so many bytes may be allocated now.

        Raises:
            BudgetError: they may not.
        """
        if self.memory + size > self.budget.memory:
            raise BudgetError("memory", self.memory + size, self.budget.memory)

    def keep(self, size: int) -> None:
        """Counts so many bytes until the stage ends.

        Raises:
            BudgetError: they may not be allocated.
        """
        self.reserve(size)
        self.memory += size

    def hold(self, array: npt.NDArray[Any]) -> None:
        """Counts the memory of an array for as long as it lives."""
        self.memory += array.nbytes
        weakref.finalize(array, self._release, array.nbytes).atexit = False

    def _release(self, size: int) -> None:
        self.memory -= size

    @contextmanager
    def share(self, parts: int) -> Iterator[None]:
        """Only one of so many equal parts of the work that is left may be spent inside."""
        most = self._most_work
        self._most_work = self.work + (most - self.work) // parts
        try:
            yield
        finally:
            self._most_work = most


_current: ContextVar[Account | None] = ContextVar("account", default=None)


def account() -> Account:
    """The account of the stage that is running; one that is given up at once outside of all stages."""
    return _current.get() or Account(Budget.default())


@contextmanager
def stage(budget: Budget | None = None, node: str | None = None) -> Iterator[Account]:
    """Gives what runs inside an account of its own, and makes one kind of error of all exhaustion.

    Args:
        budget: the limits. Without one, a stage inside another spends from that one's account.
        node: what to name in errors that name nothing.

    Raises:
        BudgetError: the budget is spent, the machine has no memory left, or things are nested too
            deeply for Python.
    """
    outer = _current.get()
    mine = outer if outer is not None and budget is None else Account(budget or Budget.default())
    token = _current.set(mine)
    try:
        yield mine
    except MemoryError:
        raise BudgetError("memory", None, mine.budget.memory, node=node) from None
    except RecursionError:
        raise BudgetError("depth", None, None, node=node) from None
    except SofieError as error:
        if isinstance(error, BudgetError) and error.node is None:
            error.node = node
        raise
    finally:
        _current.reset(token)


def spend(work: int) -> None:
    """Takes work out of the running stage's budget; see :meth:`Account.spend`."""
    account().spend(work)


def reserve(shape: Sequence[int], itemsize: int) -> None:
    """Asks whether an array may be allocated in the running stage; see :meth:`Account.reserve`."""
    account().reserve(prod(shape) * itemsize)


def spend_product(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> None:
    """Takes out what ``a @ b`` costs, and asks for the memory of its result.

    NumPy multiplies matrices of floats about ten times faster than any others.
    """
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows = a.shape[-2] if a.ndim > 1 else 1
    size = prod(batch) * rows * b.shape[-1]
    spend(size * a.shape[-1] // (10 if a.dtype.kind == "f" else 1))
    reserve((size,), max(a.itemsize, b.itemsize))


__all__ = [
    "NODE",
    "STATEMENT",
    "Account",
    "Budget",
    "account",
    "reserve",
    "spend",
    "spend_product",
    "stage",
]
