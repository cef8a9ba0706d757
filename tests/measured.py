# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/measured.md from the files in docs/measured/, which `replay --json` and `bench --json` wrote.

python tests/measured.py      writes it anew
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs/measured"
PAGE = ROOT / "docs/measured.md"
# The kernels, by the names that --kernel knows, in order.
KERNELS = ("bookworm-amd64", "bookworm-backports-amd64", "trixie-backports-amd64", "bookworm-686")
# Benchmarks of whole programs: file -> the command's words.
BENCHES = {"dd": "dd calls/fork", "programs": "programs"}
CALLS = ("getppid", "getuid", "umask", "read", "write", "fstat")
_HEAD = """# What was measured

How many cycles does a call take, by each path? These figures are cycles of the time-stamp counter,
from the kernel's first instruction to its last. They were replayed in a process on a real
processor: {processor}, {mhz:.0f} MHz, where one of these cycles is {core} of the core's. The mode
switch itself is left out on each path, and VERW is a NOP on each. [Real cycles by
replay](replay.md) says how that is done, and what it leaves out. Page-table isolation is off: the
lab boots Debian's kernels with `nopti`, as they choose by themselves on a real Icelake-Server. (An
emulated one cannot say that it has no Meltdown. `--append pti=on` puts isolation on.)

| word | meaning |
|---|---|
| `stock` | the kernel's own path |
| `all` | an unmodified program's call, while the module's scope is `all` or `both` |
| `fast` | a marked call |
| overlap | calls in a loop |
| serial | calls with an LFENCE at both mode switches; a real call is between overlap and serial |

Made by `python tests/measured.py` from what these commands wrote:

{commands}

Your cycles will differ with another processor or another kernel. Your instruction counts will be
the same, with the same kernel and model.
"""
_NESTED = """
## At the bottom of 24 functions

Here each of the six calls is made by a function below 24 others, and all of these return
afterwards. The figures are cycles of one call, the mean of the six, without the caller's own time.
If a way into the kernel left the processor's return predictor wrong, each of these returns would be
mispredicted, and that would show here. The predictor holds a limited number of returns. Calls as
deep as these, with the kernel's own, may be more than that on every path, stock's too.

{table}

{above}
"""
_STACK_OFFSET = """
## Stock without its random stack offset

The random stack offset is a part of stock's cost, and the kernel has an option to leave it out
without any module. Booted with `randomize_kstack_offset=off`, stock alone takes fewer cycles a
call: on 6.1 10 overlapping and 25 serialised, on 7.3 9 and 7 (median of eleven calls, without
VERW). The module draws an offset in any case, from a cheaper generator.

    ./sysenter replay --kernel bookworm-amd64 --export DIR
    ./sysenter replay --kernel bookworm-amd64 --append randomize_kstack_offset=off --against DIR

For 7.3, both commands take `--kernel trixie-backports-amd64` instead.
"""
_PROGRAMS = """
## Whole programs

Guest instructions of a whole program from its start to its end, with the kernel's, on a guest's
Icelake-Server with 6.1. The columns say how many fewer (-) or more there are by each path. `all` is
the unmodified program while the scope is `all`. `fast` is the program with the preload library,
whose loading costs a short program more than it saves. Instructions are not time: a copy of 64 KiB
is only a few of them.

{commands}

{table}

By `all`, a program that makes little but tiny calls (dd up to 512 bytes) executes 9 to 12 % fewer.
Shells that read a file line by line execute 2 to 4 % fewer, servers and programs that walk through
files 1 to 2 %, and programs that compute or copy less than 1 %. For fork nothing is shown: a guest
that waits counts on to its next timer, and `./sysenter bench calls/fork --scope all --rounds 3`
gave -1.9 % where this run has more than stock.
"""


def load(name: str) -> dict[str, Any]:
    """What a command wrote: of a kernel, or a benchmark."""
    data: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return data


def _cycles(data: dict[str, Any], call: str, path: str) -> dict[str, Any]:
    found = next(c for c in data["calls"] if (c["call"], c["path"], c["verw"]) == (call, path, False))
    assert found["verified"], (call, path)
    result: dict[str, Any] = found
    return result


def _cell(one: dict[str, Any]) -> str:
    return f"{one['cycles']['overlap']:.0f} / {one['cycles']['serial']:.0f}"


def call_table(data: dict[str, Any]) -> str:
    """A row for each call: instructions, and cycles overlapping / serial, of each path."""
    lines = [
        "| call | instructions stock, all, fast | stock | all | fast |",
        "|---|---|---|---|---|",
    ]
    for call in CALLS:
        paths = [_cycles(data, call, path) for path in ("stock", "all", "fast")]
        counts = ", ".join(str(p["instructions"]) for p in paths)
        lines.append(f"| {call} | {counts} | " + " | ".join(_cell(p) for p in paths) + " |")
    means = []
    for path in ("stock", "all", "fast"):
        each = [_cycles(data, call, path)["cycles"] for call in CALLS]
        means.append(f"{mean(c['overlap'] for c in each):.0f} / {mean(c['serial'] for c in each):.0f}")
    lines.append("| mean | | " + " | ".join(means) + " |")
    return "\n".join(lines)


def mixture_table(data: dict[str, Any]) -> str:
    """All calls mixed, by order and by what is between them."""
    lines = ["| order | between | stock | all | fast |", "|---|---|---|---|---|"]
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for one in data["mixture"]:
        if not one["verw"]:
            rows.setdefault((one["order"], one["between_kib"]), {})[one["path"]] = one
    for (order, kib), paths in rows.items():
        between = f"{kib} KiB of other code and data" if kib else "nothing"
        cells = []
        for path in ("stock", "all", "fast"):
            cycles = paths[path]["cycles"]
            cells.append(" / ".join(f"{cycles[way]:.0f}" for way in ("overlap", "serial") if way in cycles))
        lines.append(f"| {order} | {between} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def nested_table(all_data: dict[str, dict[str, Any]]) -> str:
    """The mean of CALLS at the bottom of nested functions, for each kernel."""
    lines = ["| kernel | stock | all | fast |", "|---|---|---|---|"]
    for data in all_data.values():
        means = [f"{nested_mean(data, path):.0f}" for path in ("stock", "all", "fast")]
        lines.append(f"| {data['kernel'].split(' ', 1)[0]} | " + " | ".join(means) + " |")
    return "\n".join(lines)


def nested_mean(data: dict[str, Any], path: str) -> float:
    """Cycles at the bottom of nested functions, over CALLS."""
    return mean(float(_cycles(data, call, path)["cycles"]["nested"]) for call in CALLS)


def _nested_above(all_data: dict[str, dict[str, Any]]) -> str:
    """The calls that take more there than stock's."""
    found = []
    for data in all_data.values():
        for call in (c for c in data["calls"] if c["path"] != "stock" and not c["verw"]):
            own, stock = call["cycles"]["nested"], _cycles(data, call["call"], "stock")["cycles"]["nested"]
            if own > stock:
                release = data["kernel"].split(" ", 1)[0]
                found.append(f"- {call['call']} by {call['path']} on {release}: {own:.0f}, stock {stock:.0f}")
    if not found:
        return "No call takes more cycles than stock there."
    return "Calls that take more cycles than stock there:\n\n" + "\n".join(found)


def programs_table(*results: dict[str, Any]) -> str:
    """Guest instructions of whole programs, the kernel's with them, and how many fewer by each path."""
    lines = ["| workload | stock | all | fast |", "|---|---|---|---|"]
    for result in results:
        for key, paths in result["workloads"].items():
            stock = paths["stock"]["instructions"]
            less = [f"{100 * (paths[path]['instructions'] / stock - 1):+.1f} %" for path in ("all", "fast")]
            lines.append(f"| {key.replace('/', ': ')} | {stock:,} | " + " | ".join(less) + " |")
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    all_data = {kernel: load(kernel) for kernel in KERNELS}
    first = all_data[KERNELS[0]]
    command = "    ./sysenter replay --kernel {0} --module-option scope=both \\\n        --json docs/measured/{0}.json"
    text = _HEAD.format(
        processor=first["processor"],
        mhz=first["tsc_mhz"],
        core=first["core_cycles"],
        commands="\n".join(command.format(kernel) for kernel in KERNELS),
    )
    for data in all_data.values():
        release = data["kernel"].split(" ", 1)[0]
        text += f"\n## {release}, on a guest's {data['cpu']}\n\nCycles, overlap / serial.\n\n{call_table(data)}\n\n"
        text += f"The replay's calls mixed:\n\n{mixture_table(data)}\n"
    command = "    ./sysenter bench {0} --kernel bookworm-amd64 --rounds 1 --json docs/measured/{1}.json"
    amd64 = {kernel: data for kernel, data in all_data.items() if data["arch"] == "amd64"}
    text += _NESTED.format(table=nested_table(amd64), above=_nested_above(amd64))
    text += _STACK_OFFSET
    return text + _PROGRAMS.format(
        commands="\n".join(command.format(words, name) for name, words in BENCHES.items()),
        table=programs_table(*map(load, BENCHES)),
    )


if __name__ == "__main__":
    PAGE.write_text(page())
