/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Definitions that the module's C and assembly share. */
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
 * Linux 2.4: SYSENTER_ESP points into this CPU's TSS. No hardware task switch ever
 * happens, and only rings 0 and 3 are used. So nobody uses the bytes from esp1 (12) up
 * to the LDT selector (96). From the top down they have room for the frames of a #DB
 * and of an NMI that come before the stack is found. At the bottom is this CPU's count
 * of calls.
 */
#define TSS_ENTRY	88
#define TSS_COUNT	12

/*
 * Linux 2.2, the gentle ways: a block of 64 KB, aligned to its size. A selector in the
 * low half of %esp therefore gives an address in the block. The cell of a task ends at
 * the offset that is its TSS's selector: room for an NMI's frame (12 bytes), and below
 * it the address of the end of the task's stack. Behind the cells there is one slot for
 * each CPU. SYSENTER_ESP is the slot's top. A slot has room for the frame of a #DB, for
 * the frame of an NMI that comes within it, and for this CPU's count of calls.
 */
#define BLOCK_BYTES	0x10000
#define CELL_STACK	-16
#define SLOTS_AT	0xe000
#define SLOT_SIZE	128
#define SLOT_COUNT	0

/* The bit of a segment descriptor that the processor leaves to software. Here it is in a
   TSS's, and says that the task's cell is filled in. The kernel clears it when it gives
   the slot to a new task. */
#define DESCRIPTOR_AVL_BYTE	6
#define DESCRIPTOR_AVL		0x10

/*
 * Linux 2.2, the cruel way: SYSENTER_ESP is this far below the end of the task's stack.
 * A #DB or an NMI at the entry's first instruction pushes its frame at SYSENTER_ESP.
 * While a task is in vm86 mode, the end of its stack holds the registers with which it
 * goes on in 32-bit mode, and those must not be overwritten.
 */
#define CRUEL_ROOM	1024

/* Linux 2.2, the cruel way on SMP: each CPU has a count of its own, a cache line apart. */
#define COUNT_SHIFT	5

/* Linux 2.4, SYSCALL: the layout of a per-CPU stub. ESP is the kernel's from the second
   instruction on (STACK). C writes addresses of this CPU's data into it (PATCH). */
#define SYSCALL_STUB_SIZE	32
#define SYSCALL_STUB_STACK	7
#define SYSCALL_PATCH_STACK	3
#define SYSCALL_PATCH_COUNT	10

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
