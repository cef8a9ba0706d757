# SPDX-License-Identifier: GPL-2.0-or-later
"""From a target to files: module, preload library, guest image."""
