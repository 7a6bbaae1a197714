"""What can be asked of models that draw what they make; light, for files that load no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alm_cli.decoding.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """How freely tokens are drawn, by which seed; None leaves a number to the model."""

    seed: int = 0
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None

    def sampling(self, usual: Sampling) -> Sampling:
        """How tokens are drawn; what is left open is as usual."""
        asked = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        given = {key: value for key, value in asked.items() if value is not None}
        return replace(usual, **given)  # type: ignore[arg-type]
