# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine to run kernels on: QEMU, its guest, what goes in and comes out."""
