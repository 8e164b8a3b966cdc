"""Where the model zoo is: networks of the experiments and unit models, with stored inputs and outputs.

The zoo is no part of the repository, because several of its models carry no licence. Tests and benchmarks
that need it look for it here, and say so where they are left out.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "SOFIE_ROOT_ZOO"
BESIDE = Path(__file__).resolve().parents[2] / "shared" / "zoo"

ZOO = Path(os.environ.get(VARIABLE) or BESIDE)
"""``$SOFIE_ROOT_ZOO``, or ``shared/zoo`` beside the project."""

ABSENT = f"the model zoo is not at {ZOO}; set {VARIABLE} to where it is"
"""Why a test or a benchmark is left out."""
