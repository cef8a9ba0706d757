# SPDX-License-Identifier: GPL-2.0-or-later
"""What is made of the parser: shell completion and the manual page."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import shtab

from sysenter import __version__
from sysenter.kernels.catalogue import CATALOGUE

__all__ = ["completion", "manual_page"]

# What follows --kernel: a name of the catalogue, or a file.
_KERNEL = {"bash": "_sysenter_kernels", "zsh": "_sysenter_kernels", "tcsh": "f"}


def _preamble() -> dict[str, str]:
    names = " ".join(entry.name for entry in CATALOGUE)
    return {
        "bash": f'_sysenter_kernels() {{ compgen -W "{names}" -- "$1"; compgen -f -- "$1"; }}\n',
        "zsh": f"_sysenter_kernels() {{ _alternative 'names:kernel:({names})' 'files:kernel.toml:_files' }}\n",
    }


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion of the command line for bash, zsh or tcsh."""
    for action in _actions(parser):
        if "--kernel" in action.option_strings:
            action.complete = _KERNEL  # type: ignore[attr-defined]
        elif action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell, preamble=_preamble().get(shell, ""))


_DESCRIPTION = (
    "sysenter gives a running, unmodified Linux kernel a second, shorter entry for system calls, as a loadable module; "
    "by default in a virtual machine, where it also measures what that buys. What a command fetches is kept in the "
    "cache; with --offline it takes what is there."
)
_ENVIRONMENT = (
    ("XDG_CACHE_HOME", "The cache is in sysenter/ below it, or in ~/.cache/sysenter."),
    ("SYSENTER_DEBIAN_MIRROR", "Where packages are fetched from, if not from the mirror of this machine's apt."),
    ("SYSENTER_LEGACY_KERNELS", "A folder of folders with a kernel.toml each: 2.2 and 2.4 kernels for the tests."),
    ("SYSENTER_PATIENCE", "How many times as long as planned a guest may take, on a busy machine."),
)
_EXIT = (
    ("0", "All is well."),
    ("1", "An error, or a difference was found."),
    ("2", "The command line is not understood."),
    ("130", "Interrupted."),
)


def _roff(text: str) -> str:
    """Plain text as roff reads it (groff_man(7)): backslashes, hyphens, and what begins a line."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def _first(text: str | None, change: Callable[[str], str]) -> str:
    """A text with its first letter changed."""
    return change((text or "")[:1]) + (text or "")[1:]


def _listed(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, text in pairs:
        yield from (".TP", name, _roff(text) or "\\&")


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """How each argument of a parser is written, and its help."""
    formatter = parser._get_formatter()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
            continue
        shown = formatter._format_action_invocation(action)
        bold = re.sub(r"(?<![\w-])(--?[\w-]+)", lambda match: f"\\fB{_roff(match[1])}\\fR", shown)
        yield bold, formatter._expand_help(action) if action.help else ""


def manual_page(parser: argparse.ArgumentParser) -> str:
    """The manual page, in roff: `sysenter manual | man -l -`."""
    lines = [
        f'.TH SYSENTER 1 "" "sysenter {_roff(__version__)}" "User Commands"',
        ".SH NAME",
        f"sysenter \\- {_roff(_first(parser.description, str.lower).rstrip('.'))}",
        ".SH SYNOPSIS",
        ".B sysenter",
        ".I COMMAND",
        "[options]",
        ".SH DESCRIPTION",
        _roff(_DESCRIPTION),
        ".SH OPTIONS",
        *_listed(_options(parser)),
        ".SH COMMANDS",
    ]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                usage = " ".join(command.format_usage().removeprefix("usage: ").split())
                lines += [f".SS {name}", _roff(_first(command.description, str.upper) + "."), ".PP", _roff(usage)]
                lines += _listed(_options(command))
    lines += [".SH ENVIRONMENT", *_listed((f"\\fB{name}\\fR", text) for name, text in _ENVIRONMENT)]
    lines += [".SH EXIT STATUS", *_listed(_EXIT)]
    return "\n".join(lines)
