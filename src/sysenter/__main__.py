# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m sysenter"""

import sys

from sysenter.cli import main

sys.exit(main(sys.argv[1:]))
