# SPDX-License-Identifier: GPL-2.0-or-later
"""What `doctor` prints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from sysenter.doctor import Finding

__all__ = ["print_findings"]


def print_findings(findings: Iterable[Finding], out: TextIO) -> None:
    """Print a line for each finding, and what to do about those that will not do."""
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'MISS'}  {finding.what}: {finding.found}", file=out)
        if not finding.ok:
            print(f"      {finding.hint}", file=out)
