# SPDX-License-Identifier: GPL-2.0-or-later
"""Where kernels come from: Debian's packages, or a folder of the user's."""
