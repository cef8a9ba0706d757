# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m sysenter, and the command of an installed package."""

import sys

from sysenter.cli import main

__all__ = ["run"]


def run() -> None:
    """Do what the command line says, and exit."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
