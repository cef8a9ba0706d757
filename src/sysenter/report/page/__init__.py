# SPDX-License-Identifier: GPL-2.0-or-later
"""`./sysenter report`: saved JSON as one self-contained page."""

__all__: list[str] = []
