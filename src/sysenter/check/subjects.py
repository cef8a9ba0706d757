# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the objects come from that are checked.

A present handler's object is built by the build room, for a real kernel. The legacy ones are
assembled here, from the same source, with constants that were taken from the kernels' headers
(headers/). So they can be checked in CI, which has no such kernel.
"""

from __future__ import annotations

from pathlib import Path

from sysenter.build import build_module
from sysenter.build.native import NATIVE, compiler, compiler_version, sources_digest
from sysenter.cache import cache_folder, digest, fill, lock
from sysenter.check.handlers import Handler, Subject, handler_named
from sysenter.kernels.catalogue import CATALOGUE
from sysenter.kernels.description import read_description
from sysenter.kernels.provide import provide
from sysenter.steps import Steps, run_command

__all__ = ["subject", "takes"]

_HEADERS = Path(__file__).with_name("headers")


def _kernel(handler: Handler, chosen: str) -> str:
    """`chosen` if its processor is the handler's, else the handler's default."""
    arches = {entry.name: entry.arch for entry in CATALOGUE}
    arch = read_description(Path(chosen)).arch if chosen.endswith(".toml") else arches.get(chosen)
    if handler.no_other_kernel:
        return handler.default_kernel
    return chosen if arch in (None, arches[handler.default_kernel]) else handler.default_kernel


def takes(name: str, kernel: str) -> bool:
    """Whether handler `name` is checked as it is built for `kernel`: not for one that it always has, or of its own."""
    handler = handler_named(name)
    return not handler.headers and _kernel(handler, kernel) == kernel


def subject(steps: Steps, name: str, kernel: str, offline: bool) -> Subject:
    """The files of handler `name`; `kernel` names the target of the present one that it fits.

    Raises SysenterError if there is no such handler or it cannot be built.
    """
    handler = handler_named(name)
    if not handler.headers:
        built = build_module(steps, provide(steps, _kernel(handler, kernel), offline=offline))
        return Subject(name, built.entry, built.offsets)
    headers = _HEADERS / handler.headers
    recorded = [path.read_bytes() for path in sorted(headers.rglob("*.h"))]
    key = digest([compiler_version(compiler()), sources_digest("legacy"), *recorded])
    folder = cache_folder() / "check" / f"{handler.headers}-{key}"
    with lock("check"):
        if not folder.exists():
            with steps.step(f"assemble the handlers of {handler.headers}"), fill(folder) as new:
                run_command(
                    steps,
                    [
                        compiler(),
                        "-m32",
                        "-c",
                        "-D__ASSEMBLY__",
                        f"-I{headers}",
                        "-o",
                        new / "entry.o",
                        NATIVE / "legacy" / "entry.S",
                    ],
                    what=f"assemble the handlers of {handler.headers}",
                    timeout=60,
                    hint="is gcc with 32-bit support installed? `./sysenter doctor` tells",
                )
    return Subject(name, folder / "entry.o", headers / "offsets.h")
