/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For cases of one process: write down its faults, have a tracer that is its parent set debug
 * registers, make segments in its LDT.
 */
#ifndef HAZARDS_FAULTS_H
#define HAZARDS_FAULTS_H
#include "hazards.h"
#include <asm/ldt.h>
#include <setjmp.h>
#include <stddef.h>

static sigjmp_buf back;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;

	/*
	 * Not the result and not ebp. An i386 fast call with up to five arguments does not fetch
	 * the sixth, so it is executed where stock answers -EFAULT. Both return to the landing
	 * pad, which faults on the same address.
	 */
	note("signal %d code %d addr %lx at %s sp %lx trap %lu err %lx ", signal, info->si_code,
	     signal == SIGSEGV ? (unsigned long)info->si_addr : 0, place(g[CONTEXT_IP]), (unsigned long)g[CONTEXT_SP],
	     (unsigned long)g[REG_TRAPNO], (unsigned long)g[REG_ERR]);
	siglongjmp(back, 1);
}

static __attribute__((unused)) void catch_faults(void)
{
	static char stack[65536];
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };

	sigaltstack(&alternate, NULL);
	handle(SIGSEGV, on_fault, SA_ONSTACK | SA_NODEFER);
	handle(SIGBUS, on_fault, SA_ONSTACK | SA_NODEFER);
	handle(SIGILL, on_fault, SA_ONSTACK | SA_NODEFER);
	handle(SIGTRAP, on_fault, SA_ONSTACK | SA_NODEFER);
}

#define DEBUGREG(n) offsetof(struct user, u_debugreg[n])

/* DR7 for breakpoint 0. kind: 0 execute, 1 write, 3 access; size 4 for data. */
static __attribute__((unused)) void set_watch(pid_t child, uintptr_t address, int kind)
{
	if (ptrace(PTRACE_POKEUSER, child, DEBUGREG(0), address) ||
	    ptrace(PTRACE_POKEUSER, child, DEBUGREG(7), 1 | kind << 16 | (kind ? 3 << 18 : 0)))
		note("no watch: %d ", errno);
}

/* Note each stop that `body` makes with breakpoint 0 at this address; kind: see set_watch. */
static __attribute__((unused)) void under_watch(void (*body)(void), uintptr_t address, int kind)
{
	struct user_regs_struct r;
	pid_t child = traced(body);
	int status, stops = 0;

	set_watch(child, address, kind);
	for (; stops < 20 && next_stop(child, PTRACE_CONT, &r, &status); stops++) {
		note("stop %d at %s dr6 %lx ", WSTOPSIG(status), place(r.user_ip),
		     ptrace(PTRACE_PEEKUSER, child, DEBUGREG(6), 0) & 0xf);
		note_user_briefly(&r);
		note("; ");
	}
	note_status(status);
	kill(child, SIGKILL);
}

static __attribute__((unused)) int set_ldt(unsigned int entry, unsigned int limit, int present)
{
	struct user_desc d = { .entry_number = entry, .base_addr = LDT_BASE, .limit = limit, .seg_32bit = 1,
			       .seg_not_present = !present, .useable = 1 };

	return syscall(SYS_modify_ldt, 1, &d, sizeof(d));
}

#endif
