// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Executes INT3 in a page that is mapped by the fault of its own fetch, and again where the page
 * is there. The fault saves RF as 1, IRET loads it, and the end of the instruction clears it (SDM
 * 3B, "Instruction-Breakpoint Exception Condition"): the trap saves it as 0 both times.
 */
#define _GNU_SOURCE	/* REG_EFL */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static volatile long flags;

static void on_trap(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info;
	flags = ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };
	FILE *file = tmpfile();
	uint8_t *code;

	if (!file || fwrite("\xcc\xc3", 1, 2, file) != 2 || fflush(file) || sigaction(SIGTRAP, &action, NULL))
		return 1;
	code = mmap(NULL, 2, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(file), 0);
	if (code == MAP_FAILED)
		return 1;
	for (int i = 0; i < 2; i++) {
		((void (*)(void))code)();	/* int3; ret */
		printf("{\"resume_flag\": %ld}\n", flags >> 16 & 1);
	}
	return 0;
}
