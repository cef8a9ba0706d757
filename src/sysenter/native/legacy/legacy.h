/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the C and assembly halves of the module agree on. */
#ifndef SYSENTER_LEGACY_H
#define SYSENTER_LEGACY_H

#ifdef SYSENTER_ASSEMBLY
#include <linux/config.h>
#include <linux/version.h>
#endif

#ifndef KERNEL_VERSION
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#endif
#define LINUX_2_2 (LINUX_VERSION_CODE < KERNEL_VERSION(2, 3, 0))

#if defined(CONFIG_SMP) || defined(__SMP__)
#define SYSENTER_SMP 1
#endif

/*
 * Linux 2.4: SYSENTER_ESP points into this CPU's TSS. No hardware task switch
 * ever happens and no ring but 0 and 3 exists, so the bytes from esp1 (12) up
 * to the LDT selector (96) belong to nobody. They hold, from the top down, the
 * frames of a #DB or an NMI that hits before the stack is found, and at the
 * bottom this CPU's count of calls.
 */
#define TSS_ENTRY	88
#define TSS_COUNT	12

/*
 * Linux 2.2, the gentle way: one slot for each CPU, SYSENTER_ESP at its top.
 */
#define SLOT_SIZE	128
#define SLOT_COUNT	0

/* Linux 2.2, the cruel way on SMP: one count for each CPU, a cache line apart. */
#define COUNT_SHIFT	5

/* GDT slot of task 0's TSS on 2.2; each task has 16 bytes (TSS, LDT). */
#define TSS0_SELECTOR	0x60

#define SLOW_DECLINED	0	/* sent to the kernel's own int 0x80 entry */
#define SLOW_EXIT	4	/* left by the kernel's ret_from_sys_call */
#define SLOW_FAULT	8	/* no argument or no return address to fetch */
#define SLOW_VM86	12	/* a vm86 task tried */
#define SLOW_TRAPPED	16	/* came with TF set */
#define SLOW_NMI	20	/* an NMI hit on the entry stack */
#define SLOW_COUNTS	6

#ifndef SYSENTER_ASSEMBLY
#if LINUX_2_2
#define SYSENTER_THREAD_SIZE sizeof(union task_union)
#else
#define SYSENTER_THREAD_SIZE THREAD_SIZE
#endif
#endif

#endif
