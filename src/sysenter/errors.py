# SPDX-License-Identifier: GPL-2.0-or-later
"""The one kind of error that a user is meant to read."""

from __future__ import annotations

from pathlib import Path

__all__ = ["Refused", "SysenterError", "as_called"]

_LAUNCHER = Path(__file__).resolve().parents[2] / "sysenter"  # in a clone


class SysenterError(Exception):
    """Something a user can act on.

    message: what was wrong and what was expected, in one line.
    hint: what to do next, in one line.
    detail: more lines for whoever wants them (a console's last lines, say).
    """

    def __init__(self, message: str, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail
        if detail:
            self.add_note(detail)  # for tracebacks: a test's report shows it

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class Refused(SysenterError):
    """A refusal: this kernel or processor cannot do what was asked for. It is not a failure."""


def as_called(text: str) -> str:
    """A text for the user, which says ./sysenter, with the command's name where it is an installed package's."""
    return text if _LAUNCHER.exists() else text.replace("./sysenter", "sysenter")
