#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The command, as Debian's package has it."""

import sys

from sysenter.cli import main

sys.exit(main(sys.argv[1:]))
