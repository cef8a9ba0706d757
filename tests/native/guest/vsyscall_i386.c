// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a 32-bit program can see of the kernel's own SYSENTER entry: results, preserved flags, and
 * how many traps a single-step through it gives. The output must be the same with and without the
 * module, on i386 and on amd64.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile sig_atomic_t traps;

static void on_trap(int number)
{
	(void)number;
	traps++;
}

/* getppid by the vDSO with these flags set. Returns the flags after it. */
static unsigned long with_flags(unsigned long set, long *result)
{
	unsigned long vsyscall = getauxval(AT_SYSINFO), after;

	*result = SYS_getppid;
	asm volatile("pushfl\n\torl %[set], (%%esp)\n\tpopfl\n\t"
		     "call *%[vsyscall]\n\t"
		     "pushfl\n\tpopl %[after]\n\tpushl $0x202\n\tpopfl"
		     : "+a"(*result), [after] "=&S"(after)
		     : [set] "D"(set), [vsyscall] "b"(vsyscall) : "memory", "cc", "ecx", "edx");
	return after;
}

int main(void)
{
	/* none, NT, AC, DF, ID, the arithmetic ones, TF, and some together */
	static const unsigned long sets[] = { 0, 0x4000, 0x40000, 0x400, 0x200000, 0x8d5, 0x100, 0x44400, 0x44500 };

	signal(SIGTRAP, on_trap);
	for (unsigned int i = 0; i < sizeof(sets) / sizeof(*sets); i++) {
		unsigned long after;
		long result;

		traps = 0;
		after = with_flags(sets[i], &result);
		printf("flags %06lx: %s, after %06lx, %d traps\n", sets[i],
		       result == getppid() ? "right" : "wrong", after, (int)traps);
	}
	return 0;
}
