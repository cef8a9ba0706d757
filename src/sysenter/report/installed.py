# SPDX-License-Identifier: GPL-2.0-or-later
"""What install would do, what is installed: for people."""

from __future__ import annotations

import shlex

from rich.console import Console
from rich.table import Table

from sysenter.install.install import Plan, boot_state
from sysenter.install.status import Status

__all__ = ["print_built", "print_plan", "print_status"]


def print_plan(plan: Plan, console: Console) -> None:
    """Every file and command of an install, in an order in which they could be done by hand."""
    console.print(f"version {plan.version}, for {', '.join(k.release for k in plan.kernels) or 'no kernel'}")
    for path, mode in plan.files.items():
        console.print(f"file     {mode:o} {path}", soft_wrap=True)
    for argv in plan.commands:
        console.print(f"command  {shlex.join(argv)}", soft_wrap=True)
    for what in plan.kept.values():
        console.print(f"kept     {what}", soft_wrap=True)


def print_built(refused: dict[str, str], console: Console) -> None:
    """For which kernels there is a module now."""
    for release, reason in refused.items():
        console.print(f"{release}: {f'no module: {reason}' if reason else 'the module is built'}", soft_wrap=True)


def _yes(value: bool | None) -> str:
    return "not there" if value is None else "yes" if value else "no"


def print_status(status: Status, console: Console) -> None:
    """The table of kernels, then what is loaded and what boot will do."""
    if not status.version:
        console.print("not installed (sudo ./sysenter install)")
    else:
        console.print(f"sysenter {status.version}, installed {status.when or 'by its Debian packages'}")
    table = Table("kernel", "module", "why", "signed by")
    for kernel in status.kernels:
        name = f"{kernel.release} (running)" if kernel.running else kernel.release
        table.add_row(name, kernel.state, kernel.reason or "-", kernel.signer or "-")
    console.print(table)
    if status.loaded:
        since = f" since {status.since}" if status.since else ""
        console.print(f"loaded{since}, scope {status.scope}: {status.calls} fast calls so far")
    else:
        console.print("not loaded")
    boot = "loaded at each boot" if status.at_boot else "not loaded at boot"
    if status.fuse:
        boot += (
            f"; the fuse has blown: the boot of {status.fuse} did not come up well "
            "(install --at-boot mends it), or it began less than a minute ago"
        )
    console.print(boot, soft_wrap=True)
    console.print(f"Secure Boot: {_yes(status.secure_boot)}; signed modules only: {_yes(status.signed_only)}")
    if boot_state():
        console.print(boot_state(), soft_wrap=True)
    if status.virtual_machines:
        beside = "beside them the module is loaded on amd64 with scope=all only"
        console.print(f"virtual machines: {status.virtual_machines}; {beside}", soft_wrap=True)
