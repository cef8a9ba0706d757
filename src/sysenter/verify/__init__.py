# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds a real kernel's behaviour against stock: its own selftests, its mitigations."""
