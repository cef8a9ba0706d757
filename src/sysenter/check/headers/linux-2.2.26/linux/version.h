/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LINUX_VERSION_CODE 0x02021a /* 2.2.26 */
