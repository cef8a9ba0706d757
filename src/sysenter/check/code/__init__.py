# SPDX-License-Identifier: GPL-2.0-or-later
"""The code under test: the object, laid out, decoded."""
