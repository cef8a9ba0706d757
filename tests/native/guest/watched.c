// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Counts the instructions of single calls that scope=all leaves to the kernel: a number that is out
 * of range, one outside the fast table, one of a task with a seccomp filter. Exact under -icount.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __i386__
static unsigned long vdso;
#endif

static inline uint64_t tsc(void)
{
	uint32_t low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static void count(const char *what, long nr)
{
	uint64_t least = ~0ull;

	for (int i = 0; i < 200; i++) {
		long result = nr;
		uint64_t start = tsc();

#ifdef __x86_64__
		asm volatile("syscall" : "+a"(result) : "D"(0), "S"(0), "d"(0) : "memory", "cc", "rcx", "r11");
#else
		/* by the vDSO, as a C library calls */
		asm volatile("call *%[vdso]" : "+a"(result) : "b"(0), "c"(0), "d"(0), [vdso] "m"(vdso) : "memory", "cc");
#endif
		start = tsc() - start;
		if (start < least)
			least = start;
	}
	printf("{\"watched\": \"%s\", \"tsc\": %llu}\n", what, (unsigned long long)least);
}

int main(void)
{
	struct sock_filter allow[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog program = { 1, allow };

#ifdef __i386__
	vdso = getauxval(AT_SYSINFO);
#endif
	count("number outside", 1000);
	count("outside the table", SYS_personality);	/* sets it to 0, which it is */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return 1;
	count("seccomp", SYS_getppid);
	return 0;
}
