/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Does a fast call work here? Make one and see.
 *
 * /dev/sysenter may be there although SYSENTER does not do what it does on the processor. An
 * emulator of user mode (qemu-x86_64, valgrind) passes open() and mmap() on to the kernel and
 * executes the instruction in its own way. A virtual processor may call itself Intel's on a host
 * of AMD's, which has no SYSENTER in 64-bit mode. Then the program must go on as it would without
 * this library. So the trial catches SIGILL and SIGSEGV.
 *
 * It uses no function of the C library, because there may be none (next.h).
 */
#ifndef SYSENTER_TRIAL_H
#define SYSENTER_TRIAL_H
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <asm/sigcontext.h>
#include <asm/unistd.h>

/* The kernel's structures. libc's headers have others, and declare read() and more. */
struct kernel_sigaction {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

struct kernel_ucontext {
	unsigned long flags;
	void *link;
	struct {
		void *base;
		int flags;
		size_t size;
	} stack;
	struct sigcontext registers;
};

enum { SIG_ILL = 4, SIG_SEGV = 11, UNBLOCK = 1, SET_MASK = 2, WITH_SIGINFO = 4, WITH_RESTORER = 0x04000000 };

/* For each architecture: the return from a handler, and a stock call. */
extern void trial_restorer(void) __attribute__((visibility("hidden")));
static long trial_call(long nr, long a, long b, long c, long d);

/*
 * The SYSENTER trapped: go on behind it with -ENOSYS, as if the kernel had no such call. Each
 * architecture knows where that is. A trap of any other instruction is not ours.
 */
static void trial_skip(struct sigcontext *registers);

static void trial_trapped(int signal, void *info, struct kernel_ucontext *context)
{
	(void)signal, (void)info;
	trial_skip(&context->registers);
}

/*
 * Does this run under valgrind? valgrind prints a message at a SYSENTER of a 64-bit program, and
 * ends at one of a 32-bit program, even if the signal is caught. So ask first, in the way of its
 * manual ("client request"): rotations that leave the register unchanged, and an exchange of a
 * register with itself. Only valgrind takes that for a question.
 */
static int under_valgrind(void)
{
	uintptr_t request[6] = { 0x1001 /* RUNNING_ON_VALGRIND */ }, answer = 0;

#ifdef __x86_64__
	asm volatile("rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi; xchgq %%rbx, %%rbx"
		     : "+d"(answer) : "a"(request) : "memory", "cc");
#else
	asm volatile("roll $3, %%edi; roll $13, %%edi; roll $29, %%edi; roll $19, %%edi; xchgl %%ebx, %%ebx"
		     : "+d"(answer) : "a"(request) : "memory", "cc");
#endif
	return answer != 0;
}

/*
 * Make one fast call: close(fd), which is due anyway. So a seccomp filter sees no additional call
 * but those for signals. Returns whether it worked; only then fd is closed.
 */
static int trial(long (*fast_close)(long fd), long fd)
{
	static const int signals[2] = { SIG_ILL, SIG_SEGV };
	struct kernel_sigaction catch = { trial_trapped, WITH_SIGINFO | WITH_RESTORER, trial_restorer, 0 }, before[2];
	uint64_t unblock = 1ULL << (SIG_ILL - 1) | 1ULL << (SIG_SEGV - 1), mask;
	int works;

	for (int i = 0; i < 2; i++)
		if (trial_call(__NR_rt_sigaction, signals[i], (long)&catch, (long)&before[i], 8)) {
			if (i)
				trial_call(__NR_rt_sigaction, signals[0], (long)&before[0], 0, 8);
			return 0;
		}
	trial_call(__NR_rt_sigprocmask, UNBLOCK, (long)&unblock, (long)&mask, 8);
	works = fast_close(fd) == 0;
	trial_call(__NR_rt_sigprocmask, SET_MASK, (long)&mask, 0, 8);
	for (int i = 0; i < 2; i++)
		trial_call(__NR_rt_sigaction, signals[i], (long)&before[i], 0, 8);
	return works;
}

#endif
