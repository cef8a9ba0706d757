/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LINUX_VERSION_CODE 0x020416 /* 2.4.22 */
