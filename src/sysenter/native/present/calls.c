// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The fast table. Which calls are in it follows from a rule, not from a list:
 * see sysenter/build/calls.py, which makes calls.h for the kernel built for.
 */
#include "sysenter.h"
#include <linux/errno.h>

/* Entries for calls that are no plain body: entry_*.S */
asmlinkage void sysenter_call_slow(void);
asmlinkage void sysenter_call_args5(void);
asmlinkage void sysenter_call_args6(void);

unsigned long sysenter_calls[SYSENTER_NR] __ro_after_init;	/* what the entry calls */
unsigned long sysenter_bodies[SYSENTER_NR] __ro_after_init;	/* the kernel's functions */
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
		sysenter_calls[i] = (unsigned long)sysenter_call_slow;
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		unsigned long body = sysenter_lookup(calls[i].symbol);

		if (!body || calls[i].nr >= SYSENTER_NR)
			continue;	/* configured out: the kernel answers -ENOSYS */
		sysenter_bodies[calls[i].nr] = body;
		sysenter_calls[calls[i].nr] = calls[i].arguments <= 3 ? body :
			calls[i].arguments <= 5 ? (unsigned long)sysenter_call_args5 :
						  (unsigned long)sysenter_call_args6;
		sysenter_fast_calls++;
	}
	if (!sysenter_fast_calls) {
		pr_err("refused: none of this kernel's system calls could be found\n");
		return -ENOENT;
	}
	return 0;
}
