# SPDX-License-Identifier: GPL-2.0-or-later
"""Many kernels, processors, scopes and jobs in one command, on one machine or on many."""
