"""One axis of a plot: its ticks, its scale, and what a number on it means (a number, a moment, a category)."""

from __future__ import annotations

import bisect
import datetime
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from .jsonable import Budget, is_missing, numbers

MICROSECONDS_OF_A_DAY = 86_400_000_000
DAYS_TO_THE_MICROSECOND = 70 * 365  # from the epoch; beyond it a float says 20 µs
MAX_DAYS = 100_000_000
NOT_A_TIME = -(1 << 63)
NOTHING = type("NOTHING", (), {})


def class_of(module: str, name: str) -> Any:
    """A class of a module that the program has imported, else one without instances."""
    return getattr(sys.modules.get(module), name, NOTHING)


class Reading:
    def __init__(self, axis: Any, budget: Budget) -> None:
        self._axis = axis
        self._budget = budget
        self._converter = axis.get_converter() if hasattr(axis, "get_converter") else getattr(axis, "converter", None)
        dates = (
            class_of("matplotlib.dates", "DateConverter"),
            class_of("matplotlib.dates", "_SwitchableDateConverter"),
        )
        self.is_moments = isinstance(self._converter, dates)
        self.is_categories = isinstance(self._converter, class_of("matplotlib.category", "StrCategoryConverter"))

    @cached_property
    def _locations(self) -> list[float]:
        locations = self._axis.get_majorticklocs()
        self._budget.take(2 * len(locations))
        return [0.0 if location is None else location for location in numbers(locations)]

    @cached_property
    def ticks(self) -> list[Any]:
        return self.of_numbers(self._locations) if self.is_moments else self._locations

    @cached_property
    def tick_labels(self) -> list[str]:
        return [self._budget.text(label) for label in self._axis.get_major_formatter().format_ticks(self._locations)]

    @cached_property
    def scale(self) -> str:
        if self.is_moments:
            return "datetime"
        scale = self._axis.get_scale()
        if scale != "linear":
            return self._budget.text(scale)
        return "categorical" if self.is_categories or self._counts_categories() else "linear"

    def _counts_categories(self) -> bool:
        """Names at 0, 1, 2 …: what pandas and `set_xticks(range(n), names)` make of categories."""
        if not self._locations or self._locations != list(range(len(self._locations))):
            return False
        return not any(map(_is_number, self.tick_labels))

    def of_numbers(self, values: Sequence[float | None]) -> list[Any]:
        """Converted values, as artists keep them, in the words of the program."""
        if self.is_moments:
            return self._moments(values)
        if self.is_categories:
            names = self._categories
            return [names.get(value, value) if value is not None else None for value in values]
        return list(values)

    def of_data(self, given: Any, converted: Any) -> list[Any]:
        """What the program gave, where it says more than the number that matplotlib made of it."""
        values = numbers(converted)
        originals = _items(given) if self.is_moments else []
        if len(originals) != len(values):
            return self.of_numbers(values)
        return [self._original(original, value) for original, value in zip(originals, values)]

    def _original(self, given: Any, converted: float | None) -> str | None:
        if given is None or converted is None or is_missing(given):
            return None
        is_moment = isinstance(given, datetime.date)
        return self._budget.text(given.isoformat()) if is_moment else self._moments([converted])[0]

    def label_at(self, value: float | None) -> str:
        """The name of a bar or box: the category there, the nearest named tick, else the value itself."""
        if value is None:
            return ""
        if self.is_categories:
            nearest = self._categories.get(round(value))
            return self._budget.text(f"{value:.10g}") if nearest is None else nearest
        named = self._named_tick(value)
        if named is not None:
            return named
        return str(self._moments([value])[0]) if self.is_moments else f"{value:.10g}"

    def _named_tick(self, value: float) -> str | None:
        if not self._places:
            return None
        above = bisect.bisect(self._places, value)
        nearest = min(self._places[max(above - 1, 0) : above + 1], key=lambda place: abs(place - value))
        return self._tick_names[nearest] if abs(nearest - value) <= self._reach else None

    @cached_property
    def _tick_names(self) -> dict[float, str]:
        """Names that the program gave, not numbers that matplotlib wrote; empty when there are none."""
        given = class_of("matplotlib.ticker", "FixedFormatter")
        if isinstance(self._axis.get_major_locator(), class_of("matplotlib.ticker", "FixedLocator")):
            given = (given, class_of("matplotlib.ticker", "FuncFormatter"))  # of set_xticks(places, names)
        if not isinstance(self._axis.get_major_formatter(), given):
            return {}
        return {place: label for place, label in zip(self._locations, self.tick_labels) if label}

    @cached_property
    def _places(self) -> list[float]:
        return sorted(self._tick_names)

    @cached_property
    def _reach(self) -> float:
        """Half the least distance of two ticks: bars of one group lie closer to their own tick."""
        return min((right - left for left, right in zip(self._places, self._places[1:])), default=1.0) / 2

    @cached_property
    def _categories(self) -> dict[float, str]:
        mapping = getattr(getattr(self._axis, "units", None), "_mapping", {})
        self._budget.take(len(mapping))
        return {float(place): self._budget.text(name) for name, place in mapping.items()}

    def _moments(self, values: Sequence[float | None]) -> list[str | None]:
        """None too for what is beyond the years of the calendar, as a tick outside the view may be."""
        numpy: Any = sys.modules["numpy"]
        known = numpy.array([numpy.nan if value is None else value for value in values], dtype=float)
        read = _of_days if getattr(self._axis, "freq", None) is None else self._of_periods
        zone = self._zone
        found: list[str | None] = []
        for moment in read(known):
            if not isinstance(moment, datetime.datetime) or is_missing(moment):
                found.append(None)
                continue
            at = moment if zone is None else moment.replace(tzinfo=datetime.timezone.utc).astimezone(zone)
            found.append(self._budget.text(at.isoformat()))
        return found

    @cached_property
    def _zone(self) -> datetime.tzinfo | None:
        """Moments without a zone are told without one, as the program gave them."""
        units = getattr(self._axis, "units", None)
        return units if isinstance(units, datetime.tzinfo) else None

    def _of_periods(self, values: Any) -> list[Any]:
        """pandas counts the periods of a regular index."""
        period: Any = sys.modules["pandas"].Period
        return [period(ordinal=int(value), freq=self._axis.freq).to_timestamp() for value in values]


def _of_days(values: Any) -> list[Any]:
    """As matplotlib's num2date, which takes 20 µs for each: days since its epoch, to what a float can say."""
    numpy: Any = sys.modules["numpy"]
    values = numpy.where(numpy.abs(values) < MAX_DAYS, values, numpy.nan)
    unit = numpy.where(numpy.abs(values) > DAYS_TO_THE_MICROSECOND, 20, 1)
    since = numpy.round(values * MICROSECONDS_OF_A_DAY / unit) * unit
    since = numpy.where(numpy.isnan(since), NOT_A_TIME, since).astype("int64").astype("timedelta64[us]")
    epoch = numpy.datetime64(sys.modules["matplotlib.dates"].get_epoch(), "us")
    moments: list[Any] = (epoch + since).tolist()
    return moments


def _is_number(label: str) -> bool:
    try:
        float(label.replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return False
    return True


def _items(given: Any) -> list[Any]:
    kind = getattr(getattr(given, "dtype", None), "kind", "")
    if kind == "M":
        return list(given.astype("datetime64[us]").tolist())
    items = list(given)
    if items and hasattr(type(items[0]), "to_timestamp"):  # periods of pandas
        return list(sys.modules["pandas"].PeriodIndex(items).to_timestamp().to_pydatetime())
    return items
