# SPDX-License-Identifier: GPL-2.0-or-later
"""Workloads, instruction counts, times, statistics."""
