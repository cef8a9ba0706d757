# SPDX-License-Identifier: GPL-2.0-or-later
"""The callers of a present entry, and the events that happen to them."""
