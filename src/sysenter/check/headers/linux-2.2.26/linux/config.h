/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What native/legacy/entry.S wants of a kernel's configuration: SMP. */
#define CONFIG_SMP 1
