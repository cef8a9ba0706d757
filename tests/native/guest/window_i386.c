// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Is anything written to the address in ESP while AMD's SYSCALL enters and leaves a 32-bit kernel?
 * Nothing must be. ESP points just above a page of this program whose every word is known. The page
 * is compared after each call. If the call returns to a stack that does not exist, SIGSEGV is
 * caught.
 *
 *	window step	calls with TF set: #DB at the entry's first instruction. ESP points into that
 *			page, into the kernel's mapping of it (root: the address is from
 *			/proc/self/pagemap), to no page, to 0 and to -1
 *	window calls N	N calls without TF, while a test sends NMIs
 *
 * Prints a JSON object a line: changed = how many words of the page have changed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define WORDS		1024
#define KERNEL		0xc0000000u	/* where the kernel maps low memory */
#define FLAG_TF		0x100

static uint32_t *page;
static sigjmp_buf back;
static volatile int traps, faults;

/* getppid by SYSCALL with this ESP and these flags. It returns if the stack is good. */
long enter(uint32_t esp, uint32_t flags);
asm("enter:\n"
    "	pushl	%ebp\n"
    "	pushl	%ebx\n"
    "	movl	12(%esp), %edx\n"
    "	movl	%esp, %ebx\n"
    "	movl	$64, %eax\n"		/* SYS_getppid */
    "	xorl	%ebp, %ebp\n"
    "	pushl	16(%esp)\n"
    "	popfl\n"
    "	movl	%edx, %esp\n"		/* the pad pops ebp, edx, ecx and returns */
    "	syscall\n"
    "back_from_call:\n"
    "	movl	%ebx, %esp\n"
    "	pushl	$0x202\n"
    "	popfl\n"
    "	popl	%ebx\n"
    "	popl	%ebp\n"
    "	ret\n");
extern const char back_from_call[];

static void on_signal(int signal, siginfo_t *info, void *context)
{
	(void)info;
	if (signal == SIGTRAP) {
		traps++;
		return;
	}
	faults++;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~FLAG_TF;
	siglongjmp(back, 1);
}

static unsigned int changed(void)
{
	unsigned int wrong = 0;

	for (int i = 0; i < WORDS / 2; i++)
		wrong += page[i] != 0x5a000000u + i;
	return wrong;
}

/* The kernel's address of the page, 0 if /proc does not tell it. */
static uint32_t kernel_address(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	if (fd < 0 || pread64(fd, &entry, sizeof(entry), (uintptr_t)page / 4096 * 8) != sizeof(entry))
		return 0;
	close(fd);
	return entry & ((1ull << 55) - 1) ? KERNEL + (uint32_t)entry * 4096u : 0;
}

static void step(const char *what, uint32_t esp)
{
	traps = faults = 0;
	if (!sigsetjmp(back, 1))
		enter(esp, 0x202 | FLAG_TF);
	printf("{\"esp\": \"%s\", \"at\": \"0x%x\", \"changed\": %u, \"traps\": %d, \"faults\": %d}\n", what, esp, changed(),
	       traps, faults);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static char stack[65536];
	stack_t other = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	unsigned long calls = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
	uint32_t user, kernel;
	long right = 0;

	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < WORDS; i++)
		page[i] = 0x5a000000u + i;
	user = (uintptr_t)&page[WORDS / 2];
	page[WORDS / 2 + 3] = (uintptr_t)back_from_call;
	kernel = kernel_address();
	if (setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000) || argc < 2)
		return 2;
	sigaltstack(&other, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGTRAP, &action, NULL);
	if (!strcmp(argv[1], "step")) {
		step("user", user);
		if (kernel)
			step("kernel", kernel + WORDS / 2 * 4);
		step("unmapped", 0x1000);
		step("zero", 0);
		step("last", 0xffffffff);
		return 0;
	}
	for (unsigned long i = 0; i < calls; i++)
		right += enter(user, 0x202) == getppid();
	printf("{\"calls\": %lu, \"right\": %ld, \"changed\": %u}\n", calls, right, changed());
	return 0;
}
