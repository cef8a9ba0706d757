# SPDX-License-Identifier: GPL-2.0-or-later
"""Benchmarks: single calls, dd, real programs, context switches, by each entry path in paired rounds."""
