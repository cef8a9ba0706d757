/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Linux 2.4, for tests only: the kernel uses the FPU for itself, as MMX copies and RAID do, with
 * interrupts on. CR0.TS and PF_USEDFPU are clear. After a while the FPU's contents must be the
 * same; if not, loading this module fails with EIO.
 */
#include <linux/config.h>
#include <linux/module.h>
#include <linux/kernel.h>
#include <linux/errno.h>
#include <linux/sched.h>
#include <asm/system.h>

#define ROUNDS 40
#define SPINS 10000000

int init_module(void)
{
	int round, in, out = 0;
	volatile int spin;

	if (current->flags & PF_USEDFPU)
		return -EBUSY;			/* the task's own contents would be lost */
	for (round = 0; round < ROUNDS; round++) {
		in = 0x1234567 + round;
		clts();
		__asm__ __volatile__("fninit; fildl %0" : : "m" (in));
		for (spin = 0; spin < SPINS; spin++)
			;
		__asm__ __volatile__("fistpl %0" : "=m" (out));
		stts();
		if (out != in)
			return -EIO;
	}
	return 0;
}

void cleanup_module(void)
{
}
