/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The contract between user code and the module. C, assembly and user programs include
 * this file, so it has constants only.
 */
#ifndef SYSENTER_ABI_H
#define SYSENTER_ABI_H

/*
 * i386: a marked system-call number has bit 31 set, and the rest is below SYSENTER_NR.
 * As signed integers these are the 512 smallest, so one signed comparison tells marked
 * calls from all others. A kernel without the module has no call with such a number: it
 * answers -ENOSYS.
 */
#define SYSENTER_MARK_I386	0x80000000
#define SYSENTER_NR		512

/*
 * amd64: a marked number is the number minus SYSENTER_NR: one of the 512 numbers just
 * below zero, in 64 bits. In a 32-bit program the upper half of rax is zero. So one
 * unsigned comparison tells marked calls from a 32-bit program's stock calls, and finds
 * numbers that are out of range.
 * HAZARD: without the module a marked call is not harmless, because the kernel takes it
 * for a 32-bit program's call. So make one only while /dev/sysenter is mapped.
 */
#ifndef __ASSEMBLER__
#define SYSENTER_MARK_AMD64	(-(long)SYSENTER_NR)	/* to be added */
#endif

/* Offsets of the two entries in the mapped page, see native/user/stub_*.S. */
#define SYSENTER_STUB_CALL	0x00	/* any number, unmarked: the stub marks it */
#define SYSENTER_STUB_MARKED	0x40	/* a number that already has the mark */

#endif
