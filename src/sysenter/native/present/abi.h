/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What user code and the module agree on. Included from C, from assembly and
 * from user programs, so: constants only.
 */
#ifndef SYSENTER_ABI_H
#define SYSENTER_ABI_H

/*
 * A fast call on i386 has bit 31 set in its system-call number and the number
 * below SYSENTER_NR. As a signed number that is the very bottom of the range,
 * so that one signed compare tells fast calls from all others; and where the
 * module is not there, no kernel has such a call: it answers -ENOSYS.
 */
#define SYSENTER_MARK_I386	0x80000000
#define SYSENTER_NR		512

/*
 * On amd64 it has SYSENTER_NR subtracted: the 512 numbers below zero as 64 bits
 * go. A 32-bit program's rax is zero in its upper half, so one unsigned compare
 * tells fast calls from its stock ones, and the number from one out of range.
 * Without the module that is not harmless: the kernel would take it for a
 * 32-bit program's call. So no call without the mapping of /dev/sysenter.
 */
#ifndef __ASSEMBLER__
#define SYSENTER_MARK_AMD64	(-(long)SYSENTER_NR)	/* to be added */
#endif

/* Offsets of the two entries in the mapped page, see native/user/stub_*.S. */
#define SYSENTER_STUB_CALL	0x00	/* any number, unmarked: the stub marks it */
#define SYSENTER_STUB_MARKED	0x40	/* a number that already has the mark */

#endif
