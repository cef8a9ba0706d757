# SPDX-License-Identifier: GPL-2.0-or-later
"""A faster way into a running Linux kernel, built, guarded, run and measured."""

__version__ = "0.1.0"
