# SPDX-License-Identifier: GPL-2.0-or-later
"""What is made of the parser: shell completion, the manual page, and docs/reference/commands.md."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sysenter import __version__
from sysenter.kernels.catalogue import CATALOGUE

__all__ = ["completion", "manual_page", "reference_page"]

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
    import shtab  # the manual page is there without a Python package

    for action in _actions(parser):
        if "--kernel" in action.option_strings:
            action.complete = _KERNEL  # type: ignore[attr-defined]
        elif action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell, preamble=_preamble().get(shell, ""))


_DESCRIPTION = (
    "sysenter gives a running, unmodified Linux kernel a shorter path for system calls, as a loadable module; "
    "by default in a virtual machine, where it also measures what that buys. What a command fetches is kept in the "
    "cache; with --offline it takes what is there."
)
_ENVIRONMENT = (
    ("XDG_CACHE_HOME", "The cache is in sysenter/ below it, or in ~/.cache/sysenter."),
    ("XDG_DATA_HOME", "Baselines of bench are in sysenter/bench/ below it, or in ~/.local/share/sysenter/bench."),
    ("TMPDIR", "Temporary files are in a folder below it, or in /tmp."),
    ("SYSENTER_DEBIAN_MIRROR", "Where packages are fetched from, if not from the mirror of this machine's apt."),
    ("SYSENTER_LEGACY_KERNELS", "A folder of folders with a kernel.toml each: 2.2 and 2.4 kernels for the tests."),
    ("SYSENTER_QEMU", "A folder with QEMU's programs, or one of them, instead of the installed ones, as --qemu."),
    ("SYSENTER_PATIENCE", "How many times as long as planned a guest may take, on a busy machine."),
)
_EXIT = (
    ("0", "All is well."),
    ("1", "An error, or a difference was found."),
    ("2", "The command line is not understood."),
    ("129", "Ended by SIGHUP."),
    ("130", "Interrupted by Ctrl-C (SIGINT)."),
    ("141", "Nobody read the rest of the output (SIGPIPE)."),
    ("143", "Ended by SIGTERM."),
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


def _cell(text: str) -> str:
    """A text in a table of Markdown, in backquotes too."""
    return text.replace("|", " or ").replace("<", "&lt;")


def _sentence(text: str) -> str:
    text = _first(text, str.upper)
    return text if text.endswith(".") else text + "."


def _invocation(action: argparse.Action) -> str:
    """How an argument is written, the same with every version of argparse."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    value = "" if action.nargs == 0 else str(action.metavar or choices or action.dest.upper())
    if not action.option_strings:
        return {"*": f"[{value} ...]", "+": f"{value} ..."}.get(str(action.nargs), value)
    if action.nargs == "?":
        value = f"[{value}]"
    return f"{', '.join(action.option_strings)} {value}".rstrip()


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction) and action.help != argparse.SUPPRESS:
            yield action


def _table(parser: argparse.ArgumentParser) -> Iterator[str]:
    formatter = parser._get_formatter()
    yield from ("| argument | what it does |", "|---|---|")
    for action in _arguments(parser):
        if "--help" not in action.option_strings:
            text = formatter._expand_help(action) if action.help else ""
            yield f"| `{_cell(_invocation(action))}` | {_cell(text)} |"


_COMMANDS_HEAD = """# Commands

Each command of `./sysenter`, with its options. Each also takes `--help`. What they return: [exit
statuses](exit-statuses.md). What they read beside their arguments: [environment
variables](environment.md).

A clone has two more: `./sysenter test` passes its arguments to pytest, and `./sysenter docs` builds
these pages.

`./sysenter manual --markdown` writes this page from the parser itself, and a test compares the two.
"""


def reference_page(parser: argparse.ArgumentParser) -> str:
    """docs/reference/commands.md, whole."""
    lines = [_COMMANDS_HEAD, "## Arguments of every command", "", *_table(parser)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                usage = " ".join(["./sysenter", name, "[OPTIONS]", *_positionals(command)])
                lines += ["", f"## {name}", "", textwrap.fill(_sentence(command.description or ""), 100), ""]
                lines += [f"    {usage}"]
                own = [*_table(command)]
                common = {*_table(parser)}
                if len(rows := [row for row in own[2:] if row not in common]):
                    lines += ["", *own[:2], *rows]
    return "\n".join(lines)


def _positionals(parser: argparse.ArgumentParser) -> list[str]:
    return [_invocation(action) for action in _arguments(parser) if not action.option_strings]
