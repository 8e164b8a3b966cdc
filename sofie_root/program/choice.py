"""Which kernels lowering and scheduling may choose where several compute the same."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, get_args

from sofie_root.errors import InputError

Kernels = Literal["auto", "always", "never"]

VARIABLE = "SOFIE_ROOT_KERNELS"
"""Environment variable with the default of :attr:`Choice.kernels`; for tests and for measurements."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How kernels are chosen for a model.

    Attributes:
        kernels: ``"auto"`` lets cost models decide; ``"always"`` takes a specialised kernel (Winograd,
            channels-last convolution, fused attention, packed integers, ...) wherever it can compute the
            operator at all; ``"never"`` takes the plain form everywhere.
        exact: forbids algorithms that round more than direct summation does (Winograd).
    """

    kernels: Kernels = "auto"
    exact: bool = False

    def specialised(self, pays: bool) -> bool:
        """Whether to take a specialised kernel that can compute the operator.

        Args:
            pays: what the cost model says.
        """
        return self.kernels == "always" or (self.kernels == "auto" and pays)


def default_choice(exact: bool = False) -> Choice:
    """The choice that the environment asks for.

    Raises:
        InputError: the environment variable has no such value.
    """
    kernels = os.environ.get(VARIABLE, "auto")
    for known in get_args(Kernels):
        if kernels == known:
            return Choice(known, exact)
    raise InputError(f"{VARIABLE} is {kernels!r}; it can be {', '.join(get_args(Kernels))}")
