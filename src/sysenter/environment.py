# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python packages that sysenter needs, in a virtual environment in the cache.

    python3 -m sysenter.environment REQUIREMENTS yes|no ARGUMENT...

becomes its python with these arguments; yes: it is made if it is not there. Made
whole or not at all, by one run at a time; a moved cache does no harm, since nothing of it is called
but bin/python. Needs nothing but Python's own library.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sysenter.cache import cache_folder, digest, fill, lock
from sysenter.ending import conclude, ready_streams
from sysenter.errors import SysenterError
from sysenter.steps import Steps, run_command

__all__ = ["main", "python_for"]


def python_for(steps: Steps, requirements: Path, *, install: bool) -> Path:
    """The python of the environment with `requirements` (pinned, with hashes); made if it is not there.

    Raises SysenterError if it is not and `install` is False, or if it cannot be made.
    """
    folder = cache_folder() / f"venv-{digest([sys.version, sys.executable, requirements.read_bytes()])}"
    python = folder / "bin/python"
    if _whole(folder):
        return python
    if not install:
        raise SysenterError(
            f"the Python environment {folder} is missing", hint="run once without --no-install and --offline"
        )
    with lock(folder.name):
        if not _whole(folder):  # another run has made it meanwhile
            with steps.step(f"set up Python packages in {folder}"), fill(folder) as new:
                run_command(
                    steps,
                    [sys.executable, "-m", "venv", new],
                    what="make a virtual environment",
                    timeout=300,
                    hint="is Debian's python3-venv installed? `./sysenter doctor` tells",
                )
                run_command(
                    steps,
                    [
                        new / "bin/python",
                        "-m",
                        "pip",
                        "install",
                        "--disable-pip-version-check",
                        "--quiet",
                        "--require-hashes",
                        "--only-binary",
                        ":all:",
                        "-r",
                        requirements,
                    ],
                    what="fetch the Python packages",
                    timeout=1800,
                    network=True,
                    hint="is there a network, and room on the disk? The lines above are pip's",
                )
                (new / "ready").touch()
    return python


def _whole(folder: Path) -> bool:
    """Whether it was finished, and the python it was made with is still there."""
    return (folder / "ready").exists() and os.access(folder / "bin/python", os.X_OK)


def main(arguments: Sequence[str]) -> int:
    """The command line that the module's docstring shows; returns the exit status of a failure."""
    ready_streams()
    steps = Steps()
    requirements, install, *rest = arguments

    def become() -> int:
        python = python_for(steps, Path(requirements), install=install == "yes")
        os.execv(python, [str(python), *rest])

    return conclude(steps, become)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
