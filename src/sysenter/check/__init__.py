# SPDX-License-Identifier: GPL-2.0-or-later
"""The checker: tries every interruption of the entry code. See docs/checker.md."""
