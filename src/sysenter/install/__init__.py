# SPDX-License-Identifier: GPL-2.0-or-later
"""The module on the machine one stands on: install, status, uninstall."""
