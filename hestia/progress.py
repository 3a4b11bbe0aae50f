"""Progress on a terminal: how much, how fast, how long still. On a pipe, a line every few seconds instead of a bar."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

_BAR_WIDTH = 28


class Progress:
    """Counts `done` towards `total` (None when unknown) and shows rate and estimate.

    Shape: `done` and `total` may count something else (bytes) than `resources`, which are shown, in `unit`s.
    """

    def __init__(self, title: str, total: int | None, *, unit: str = "resources", stream: TextIO | None = None) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.stream = stream or sys.stderr
        self.done = self.resources = 0
        self._live = self.stream.isatty()
        self._interval_s = 0.1 if self._live else 5.0
        self._started = self._shown = time.monotonic()
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show(final=True)

    def add(self, done: int, resources: int | None = None) -> None:
        """Counts `done` more, and as many resources unless told otherwise; shows at most ten times a second."""
        self.done += done
        self.resources += done if resources is None else resources
        now = time.monotonic()
        if now - self._shown >= self._interval_s:
            self._shown = now
            self._show()

    def line(self) -> str:
        """What is shown, without control characters."""
        elapsed_s = max(time.monotonic() - self._started, 1e-6)
        rate = self.resources / elapsed_s
        counted = f"{self.resources:,} {self.unit}, {rate:,.0f}/s"
        text = f"{self.title}: {counted}"
        if self.total:
            share = min(self.done / self.total, 1.0)
            bar = "#" * round(share * _BAR_WIDTH)
            left_s = elapsed_s * (1 - share) / share if share > 0 else 0.0
            text = f"{self.title} [{bar:<{_BAR_WIDTH}}] {share:4.0%}  {counted}"
            text += f", {duration(left_s)} left" if share < 1 else f", {duration(elapsed_s)}"
        return text

    def _show(self, final: bool = False) -> None:
        text = self.line()
        if self._live:
            self.stream.write("\r" + text.ljust(self._width) + ("\n" if final else ""))
            self._width = len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()


def duration(seconds: float) -> str:
    """Seconds as a person reads them: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
