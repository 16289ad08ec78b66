"""What the parts of the bench say their figures to."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    def put(
        self,
        name: str,
        samples: list[float],
        unit: str,
        reference: list[float] | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Targets are for the ratio to the reference, or for the value itself when there is none."""

    def need(self, name: str, value: float, unit: str, at_most: float) -> None: ...
