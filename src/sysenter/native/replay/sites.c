// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The part of a replay that runs in the guest. It makes each call for ever, and each at an
 * address with a name, so that a debugger can stop there.
 *
 *	sites COMMAND	makes the stock calls (site_before_NAME) until the debugger sets `go'. Then
 *			it has the shell run COMMAND, which loads the module. Then it makes the stock
 *			calls and the fast ones (site_stock_NAME, site_fast_NAME). If the module takes
 *			no marked calls, it makes the stock ones only (site_before_NAME)
 *
 * Before the module is there, it makes some calls by int $0x80 as well (site_int80_NAME). These
 * are not replayed but shown.
 *
 * Each call is made REPEAT times in a row: the debugger single-steps one that comes right after
 * another of its kind.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#ifdef __x86_64__
#include "../user/fast_call_amd64.h"
#else
#include <sys/auxv.h>
#include "abi.h"
#endif

#define REPEAT	8

static char buffer[4096] __attribute__((aligned(4096)));
volatile int go;

#ifdef __x86_64__
#define STOCK(phase, name, nr, a, b, c, d)						\
	for (int i = 0; i < REPEAT; i++) {						\
		register long r10 asm("r10") = (long)(d);				\
		long result;								\
		asm volatile(".globl site_" #phase "_" #name "\n"			\
			     "site_" #phase "_" #name ": syscall"			\
			     : "=a"(result), "+r"(r10)					\
			     : "0"((long)nr), "D"((long)(a)), "S"((long)(b)), "d"((long)(c)) \
			     : "memory", "cc", "rcx", "r11", "r8", "r9");		\
	}
/* FAST_CALL_AMD64 with a name. */
#define FAST(name, nr, a, b, c, d)							\
	for (int i = 0; i < REPEAT; i++) {						\
		register long r10 asm("r10") = (long)(d);				\
		long result, di = (long)(a), si = (long)(b), dx = (long)(c);		\
		asm volatile(".globl site_fast_" #name "\n"				\
			     "site_fast_" #name ": movq %%rsp, %%r11\n\t"		\
			     "leaq 1f(%%rip), %%rcx\n\t"					\
			     "sysenter\n\t"						\
			     "syscall\n1:"						\
			     : "=a"(result), "+D"(di), "+S"(si), "+d"(dx), "+r"(r10)	\
			     : "0"((long)(nr) + SYSENTER_MARK_AMD64)			\
			     : "memory", "cc", "rcx", "r11", "r8", "r9");		\
	}
#else
/* Through the vDSO, to which both paths return. */
static void (*vdso)(void);
#define SITE(site, number, a, b, c, d)							\
	for (int i = 0; i < REPEAT; i++) {						\
		long result;								\
		asm volatile(".globl site_" #site "\nsite_" #site ": call *%[vdso]"	\
			     : "=a"(result)						\
			     : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(0), \
			       [vdso] "m"(vdso)						\
			     : "memory", "cc");						\
	}
#define STOCK(phase, name, nr, a, b, c, d)	SITE(phase##_##name, nr, a, b, c, d)
#define FAST(name, nr, a, b, c, d)		SITE(fast_##name, (long)((nr) | SYSENTER_MARK_I386), a, b, c, d)
/* If a call has two numbers, programs use the later one. */
#undef SYS_getuid
#define SYS_getuid	SYS_getuid32
#undef SYS_fstat
#define SYS_fstat	SYS_fstat64
#endif

#define CALLS(X)						\
	X(getppid, SYS_getppid, 0, 0, 0, 0)			\
	X(read, SYS_read, zero, buffer, 1, 0)			\
	X(write, SYS_write, null, buffer, 1, 0)			\
	X(lseek, SYS_lseek, null, 0, 0, 0)			\
	X(getuid, SYS_getuid, 0, 0, 0, 0)			\
	X(fcntl, SYS_fcntl, null, F_GETFD, 0, 0)		\
	X(umask, SYS_umask, 022, 0, 0, 0)			\
	X(writev, SYS_writev, null, &vector, 1, 0)		\
	X(fstat, SYS_fstat, null, buffer + 64, 0, 0)		\
	X(getpgid, SYS_getpgid, 0, 0, 0, 0)			\
	X(pread, SYS_pread64, zero, buffer, 1, 0)

/* int $0x80 has i386's numbers. A static program's data is below 4 GiB, so it can take it. */
#define INT80(name, nr, a, b, c)							\
	for (int i = 0; i < REPEAT; i++) {						\
		int result;								\
		asm volatile(".globl site_int80_" #name "\nsite_int80_" #name ": int $0x80" \
			     : "=a"(result)						\
			     : "0"(nr), "b"(a), "c"(b), "d"(c)				\
			     : "memory", "cc" INT80_LOSES);				\
	}
#ifdef __x86_64__
#define INT80_LOSES	, "r8", "r9", "r10", "r11"
#else
#define INT80_LOSES
#endif

#define BEFORE(name, ...)	STOCK(before, name, __VA_ARGS__)
#define BOTH(name, ...)		STOCK(stock, name, __VA_ARGS__) FAST(name, __VA_ARGS__)

static struct iovec vector = { buffer, 1 };
static int zero, null;

/* Not in main(): its frame pointer would take a register, and i386 has too few. */
static __attribute__((noinline)) void before(void)
{
	CALLS(BEFORE)
	INT80(getppid, 64, 0, 0, 0)
	INT80(read, 3, zero, buffer, 1)
	INT80(write, 4, null, buffer, 1)
}

static __attribute__((noinline)) void both(void)
{
	CALLS(BOTH)
}

int main(int argc, char **argv)
{
	int device, marked;

	zero = open("/dev/zero", O_RDONLY);
	null = open("/dev/null", O_WRONLY);
#ifndef __x86_64__
	vdso = (void (*)(void))getauxval(AT_SYSINFO);
#endif
	buffer[0] = 1;
	mlockall(MCL_CURRENT | MCL_FUTURE);
	printf("{\"ready\": \"before\"}\n");
	fflush(stdout);
	while (!go)
		before();
	if (argc != 2 || system(argv[1]))
		return 3;
	device = open("/dev/sysenter", O_RDONLY | O_CLOEXEC);
	marked = device >= 0 && mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, device, 0) != MAP_FAILED;
	printf("{\"marked\": %s}\n{\"ready\": \"loaded\"}\n", marked ? "true" : "false");
	fflush(stdout);
	for (;;)
		if (marked)
			both();
		else
			before();
}
