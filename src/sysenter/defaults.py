# SPDX-License-Identifier: GPL-2.0-or-later
"""How often things are measured by default: the options and the code behind them read these."""

from __future__ import annotations

__all__ = [
    "BENCH_ROUNDS",
    "COUNT",
    "MATRIX_BENCH_ROUNDS",
    "MATRIX_LOADS",
    "MATRIX_STORM_MINUTES",
    "ROUNDS",
    "ROUNDS_IN_BOCHS",
    "SLOWNESS_OF_BOCHS",
]

ROUNDS = 9  # of run: times that each path's dd runs
ROUNDS_IN_BOCHS = 1  # where none differs from another
COUNT = 20_000  # of run: reads and writes in each dd
BENCH_ROUNDS = 9  # of each path
MATRIX_BENCH_ROUNDS = 5  # the same in a matrix, which has many
MATRIX_STORM_MINUTES = 10  # of each storm of a matrix
MATRIX_LOADS = 1000
SLOWNESS_OF_BOCHS = 8  # how many times as long as in QEMU a guest may take: a boot takes 3 to 6 times as long
