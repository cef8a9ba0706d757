# SPDX-License-Identifier: GPL-2.0-or-later
"""Who comes to a present entry, and what meets them there."""
