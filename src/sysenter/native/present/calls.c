// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The fast table. A rule decides which calls are in it: sysenter/build/calls.py applies the
 * rule to the kernel that the module is built for, and writes calls.h.
 */
#include "sysenter.h"
#include <linux/errno.h>

unsigned int sysenter_fast_calls;

static const struct {
	unsigned short	nr;
	unsigned short	arguments;
	const char	*symbol;
} calls[] __initconst = {
#define FAST_CALL(nr, arguments, symbol) { nr, arguments, #symbol },
#include "calls.h"
#undef FAST_CALL
};

int __init sysenter_fill_calls(void)
{
	unsigned int i;

	for (i = 0; i < SYSENTER_NR; i++)
		sysenter_arch_slow_call(i);
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		unsigned long body = sysenter_lookup(calls[i].symbol);

		if (!body || calls[i].nr >= SYSENTER_NR)
			continue;	/* configured out: the kernel answers -ENOSYS */
		sysenter_arch_fast_call(calls[i].nr, calls[i].arguments, body);
		sysenter_fast_calls++;
	}
	if (!sysenter_fast_calls) {
		pr_err("refused: none of this kernel's system calls could be found\n");
		return -ENOENT;
	}
	return 0;
}
