# SPDX-License-Identifier: GPL-2.0-or-later
"""What a measurement looks like: a table for people, JSON for scripts."""
