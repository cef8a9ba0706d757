# SPDX-License-Identifier: GPL-2.0-or-later
"""What `doctor` prints."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from sysenter.doctor import Finding

__all__ = ["print_findings"]


def print_findings(findings: Iterable[Finding], console: Console) -> None:
    """Print a line for each finding, and what to do about those that will not do."""
    for finding in findings:
        lines = [f"{'ok  ' if finding.ok else 'MISS'}  {finding.what}: {finding.found}"]
        if not finding.ok:
            lines.append(f"      {finding.hint}")
        for line in lines:
            console.print(line, markup=False, soft_wrap=True)
