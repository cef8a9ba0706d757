# SPDX-License-Identifier: GPL-2.0-or-later
"""What is tried: every interruption, every order of two CPUs, wrong versions of the code."""
