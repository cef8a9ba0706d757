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

/* Offsets of the two entries in the mapped page, see native/user/stub_*.S. */
#define SYSENTER_STUB_CALL	0x00	/* any number, unmarked: the stub marks it */
#define SYSENTER_STUB_MARKED	0x40	/* a number that already has the mark */

#endif
