"""Outcomes of checks, and the dated record that they become."""

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


class Failed(Exception):
    """A check could not be carried out; its text says why."""


@dataclass
class Finding:
    """One figure with what it must be."""

    what: str
    value: str
    required: str = ""
    holds: bool = True


@dataclass
class Section:
    """What one check found."""

    title: str
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    def at_most(self, what: str, value: float, bound: float) -> None:
        """A figure that must not exceed a bound; one that is not a number does."""
        self.findings.append(Finding(what, f"{value:.2e}", f"at most {bound:.0e}", value <= bound))

    def that(self, what: str, value: str, required: str, holds: bool) -> None:
        """A statement about a figure."""
        self.findings.append(Finding(what, value, required, holds))

    def note(self, what: str, value: str) -> None:
        """A figure that nothing is required of."""
        self.findings.append(Finding(what, value))

    @property
    def holds(self) -> bool:
        """Whether every figure is what it must be."""
        return all(finding.holds for finding in self.findings)


class Record:
    """All sections so far, written anew after each: a run that is cut short leaves what it found."""

    def __init__(self, path: Path, title: str, facts: list[str], budget: float) -> None:
        self.path, self.title, self.facts, self.budget = path, title, facts, budget
        self.start = time.monotonic()
        self.sections: list[Section] = []

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget - (time.monotonic() - self.start)

    def run(self, title: str, check: Callable[[Section], None]) -> None:
        """Runs a check; what keeps it from its end is a finding too."""
        section = Section(title)
        self.sections.append(section)
        print(f"{title} …", flush=True)
        start = time.monotonic()
        if self.left <= 0:
            section.that("not begun", "no time left", f"{self.budget:.0f} s in all", False)
        else:
            try:
                check(section)
            except Failed as reason:
                section.that("failed", str(reason), "", False)
            except Exception as reason:  # A defect of one check must not take the others' findings.
                section.that("failed", f"{type(reason).__name__}: {reason}"[:300], "", False)
        section.seconds = time.monotonic() - start
        for finding in section.findings:
            mark = "ok  " if finding.holds else "FAIL"
            print(f"  {mark} {finding.what}: {finding.value} {finding.required and f'({finding.required})'}", flush=True)
        self.write()

    @property
    def holds(self) -> bool:
        """Whether every section holds."""
        return all(section.holds for section in self.sections)

    def write(self) -> None:
        """Writes the record."""
        lines = [f"# {self.title}, {datetime.date.today().isoformat()}", "", *self.facts, ""]
        failed = [section.title for section in self.sections if not section.holds]
        total = time.monotonic() - self.start
        verdict = f"check failed: {'; '.join(failed)}" if failed else "every figure is what it must be"
        lines += [f"{len(self.sections)} checks in {total:.0f} s: {verdict}.", ""]
        for section in self.sections:
            lines += [f"## {section.title}", "", f"{section.seconds:.1f} s.", ""]
            lines += ["| figure | value | required | |", "|---|---|---|---|"]
            for f in section.findings:
                cells = [cell.replace("|", "\\|").replace("\n", " ") for cell in (f.what, f.value, f.required)]
                lines.append(f"| {' | '.join(cells)} | {'' if not f.required and f.holds else 'yes' if f.holds else '**no**'} |")
            lines.append("")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text("\n".join(lines), encoding="utf-8")
        part.replace(self.path)
