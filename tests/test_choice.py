"""Which kernels are chosen: by cost models, forced on or off, and exact."""

from __future__ import annotations

import pytest

from sofie_root.errors import InputError
from sofie_root.program.choice import VARIABLE, Choice, default_choice


@pytest.mark.parametrize(
    ("kernels", "pays", "taken"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("always", False, True),
        ("never", True, False),
    ],
)
def test_specialised(kernels: str, pays: bool, taken: bool) -> None:
    assert Choice(kernels).specialised(pays) is taken  # type: ignore[arg-type]


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert default_choice() == Choice("auto", exact=False)
    monkeypatch.setenv(VARIABLE, "never")
    assert default_choice(exact=True) == Choice("never", exact=True)
    monkeypatch.setenv(VARIABLE, "sometimes")
    with pytest.raises(InputError, match="auto, always, never"):
        default_choice()
