# SPDX-License-Identifier: GPL-2.0-or-later
"""What we aim at: one kernel on one kind of processor."""
