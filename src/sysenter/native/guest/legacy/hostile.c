/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hostile callers: what they try, and what each must see. Every case runs in a process of
 * its own, which exits with 0 if all was as expected. Any other end, a signal too, is
 * compared with the end that the case expects.
 *
 *	hostile all|CASE...		with `quiet' in front: print only what went wrong
 */
#include "sys.h"

#define CHECK(condition) do { if (!(condition)) \
	int80(NR_exit, __LINE__ & 0xff, 0, 0); } while (0)

enum { EFLAGS_TF = 1 << 8, EFLAGS_IF = 1 << 9, EFLAGS_DF = 1 << 10,
       EFLAGS_IOPL = 3 << 12, EFLAGS_NT = 1 << 14, EFLAGS_AC = 1 << 18, EFLAGS_ID = 1 << 21 };

enum { USER_DS = 0x2b };

static long parent;
static volatile int signals;

static void note_signal(int sig)
{
	signals++;
}

/* Execute the instruction with this %ebp, without preparing a stack. */
static void raw(u32 ebp)
{
	__asm__ volatile("movl %0,%%ebp\n\t" ENTER "\n\thlt"
			 : : "r" (ebp), "a" (NR_getppid), "b" (0), "c" (0),
			 "d" (0));
	__builtin_unreachable();
}

static void case_numbers(void)
{
	static const long bad[] = { -1, 0x3fffffff, 0x7fffffff,
		(long)0x80000000, 256, 270, 300, 512, 4096, 0x40000040 };
	u32 i;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK(fast(bad[i], 0, 0, 0) == int80(bad[i], 0, 0, 0));
}

static void case_registers(void)
{
	long a, b, s, d;

	__asm__ volatile("pushl %%ebp\n\tmovl $0x5eed,%%ebp\n\t" FAST_STUB
			 "cmpl $0x5eed,%%ebp\n\tpopl %%ebp\n\tje 2f\n\t"
			 "movl $-1,%%eax\n2:"
			 : "=a" (a), "=b" (b), "=S" (s), "=D" (d)
			 : "0" (NR_getppid), "1" (0x1111), "2" (0x2222),
			 "3" (0x3333) : "ecx", "edx", "memory", "cc");
	CHECK(a == parent && b == 0x1111 && s == 0x2222 && d == 0x3333);
}

static long with_flags(u32 flags, u32 *after)
{
	long r;

	__asm__ volatile("pushfl\n\torl %4,(%%esp)\n\tpopfl\n\t" FAST_STUB
			 "pushfl\n\tpopl %1\n\tpushl $0x202\n\tpopfl"
			 : "=a" (r), "=&S" (*after)
			 : "0" (NR_getppid), "b" (0), "D" (flags)
			 : "ecx", "edx", "memory", "cc");
	return r;
}

static void case_flags(void)
{
	static const u32 flags[] = { 0, EFLAGS_NT, EFLAGS_AC, EFLAGS_DF,
		EFLAGS_ID, EFLAGS_NT | EFLAGS_AC | EFLAGS_DF };
	u32 after, i, round;

	for (round = 0; round < 200; round++)
		for (i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
			CHECK(with_flags(flags[i], &after) == parent);
			CHECK((after & flags[i]) == flags[i]);
			CHECK(!(after & EFLAGS_IOPL));
			CHECK(after & 0x200);
		}
}

static void case_iopl(void)
{
	u32 after;

	CHECK(int80(NR_iopl, 3, 0, 0) == 0);
	CHECK(with_flags(0, &after) == parent);
	CHECK((after & EFLAGS_IOPL) == EFLAGS_IOPL);
	CHECK(fast(NR_iopl, 0, 0, 0) == 0);
	CHECK(with_flags(0, &after) == parent);
	CHECK((after & EFLAGS_IOPL) == 0);
}

#ifdef BY_SYSCALL
#define TF_WITH(instruction, behind) \
	"pushl %%ebp\n\tpushl %%ecx\n\tmovl %%esp,%%ebp\n\t" \
	instruction "popl %%ecx\n\tpopl %%ebp\n\tnop\n\t"
#else
#define TF_WITH(instruction, behind) \
	"pushl %%ebp\n\tmovl %%esp,%%ebp\n\tpushl $1f\n\t" \
	instruction "1:\t" behind "\n\tpopl %%ebp\n\tnop\n\t"
#endif
#define STEPPED(instructions) \
	"pushfl\n\torl $0x100,(%%esp)\n\tpopfl\n\t" instructions \
	"pushfl\n\tandl $~0x100,(%%esp)\n\tpopfl\n\tnop"

/* Count the traps over the same stretch of code by either entry. */
static void case_tf(void)
{
	int by_int80, by_fast;
	long r;

	on_signal(SIGTRAP, note_signal, 0);
	__asm__ volatile(STEPPED(TF_WITH("int $0x80\n\t", "addl $4,%%esp"))
			 : "=a" (r) : "0" (NR_getppid), "b" (0)
			 : "ecx", "edx", "memory", "cc");
	by_int80 = signals;
	CHECK(r == parent);
	signals = 0;
	__asm__ volatile(STEPPED(TF_WITH(ENTER "\n\tint $0x80\n\t", "nop"))
			 : "=a" (r) : "0" (NR_getppid), "b" (0)
			 : "ecx", "edx", "memory", "cc");
	by_fast = signals;
	CHECK(r == parent);
	CHECK(by_fast == by_int80 && by_fast > 0);
}

static void case_ebp_0(void) { raw(0); }
static void case_ebp_3(void) { raw(3); }
static void case_ebp_unmapped(void) { raw(0x1000); }
static void case_ebp_limit(void) { raw(0xbffffffd); }
static void case_ebp_kernel(void) { raw(0xc0100000); }
static void case_ebp_kernel_stack(void) { raw(0xc0200004); }
static void case_ebp_top(void) { raw(0xffffffff); }
static void case_ebp_zero_fault_tf(void)
{
	__asm__ volatile("xorl %%ebp,%%ebp\n\tpushfl\n\torl $0x100,(%%esp)\n\t"
			 "popfl\n\t" ENTER : : "a" (NR_getppid));
}

/* A kernel address as return address. User mode cannot go there. */
static void case_return_kernel(void)
{
#ifdef BY_SYSCALL
	/* So SIGSEGV comes where the instruction is, in the last page of user space. */
	unsigned char *last = (unsigned char *)0xbffffffe;

	last[0] = 0x0f;
	last[1] = ENTER_BYTE;
	__asm__ volatile("movl %%esp,%%ebp\n\tjmp *%0"
			 : : "r" (last), "a" (NR_getppid));
	__builtin_unreachable();
#else
	static u32 stack[2];

	stack[0] = 0xc0100000;
	raw((u32)&stack[1]);
#endif
}

static long mapping(u32 at, u32 size)
{
	long args[6] = { at, size, 7, 0x22 | (at ? 0x10 : 0), -1, 0 };

	return int80(NR_mmap, (long)args, 0, 0);
}

/* The words above %ebp are the last of a page, and the 6th argument is in no page. With
   SYSCALL the place of the 2nd argument, which is fetched later, is missing too. */
static void case_argument_unmapped(void)
{
	long page = mapping(0x20000000, 4096), r;
	u32 top = 0x20001000;

	CHECK(page == 0x20000000);
#ifdef BY_SYSCALL
	for (top -= 4; top < 0x20001008; top += 4) {
#endif
	__asm__ volatile("pushl %%ebp\n\tmovl %%esp,%%esi\n\t"
			 "movl $1f,0x20000ffc\n\tmovl %2,%%ebp\n\t"
			 ENTER "\n\tint $0x80\n"
			 "1:\tmovl %%esi,%%esp\n\tpopl %%ebp"
			 : "=a" (r) : "0" (NR_getppid), "D" (top), "b" (0)
			 : "esi", "ecx", "edx", "memory", "cc");
	CHECK(r == -EFAULT);
#ifdef BY_SYSCALL
	}
	/* Only the 2nd argument is missing: it would be in the page below. */
	CHECK(mapping(0x30001000, 4096) == 0x30001000);
	__asm__ volatile("pushl %%ebp\n\tmovl %%esp,%%esi\n\t"
			 "movl $0x30000ffc,%%ebp\n\t"
			 ENTER "\n\tint $0x80\n"
			 "1:\tmovl %%esi,%%esp\n\tpopl %%ebp"
			 : "=a" (r) : "0" (NR_getppid), "b" (0)
			 : "esi", "ecx", "edx", "memory", "cc");
	CHECK(r == -EFAULT);
#endif
}

/* The stack's page is not present yet, so the fetch faults and may sleep. */
static void case_fresh_stack(void)
{
	u32 at = 0x20000000, r, i;

	CHECK(mapping(at, 64 * 4096) == (long)at);
	for (i = 0; i < 64; i++) {
		u32 top = at + (i + 1) * 4096 - 8;

		__asm__ volatile("pushl %%ebp\n\tmovl %%esp,%%esi\n\t"
				 "movl %2,%%esp\n\t" FAST_STUB
				 "movl %%esi,%%esp\n\tpopl %%ebp"
				 : "=a" (r) : "0" (NR_getppid), "D" (top),
				 "b" (0) : "esi", "ecx", "edx", "memory", "cc");
		CHECK((long)r == parent);
	}
}

static void case_six_arguments(void)
{
	long page = fast_6(NR_mmap2, 0, 4096, 3, 0x22, -1, 0);

	if (page == -ENOSYS)			/* 2.2 */
		return;
	CHECK(page > 0 || page < -4096);
	*(volatile int *)page = 1;
}

static void case_segments(void)
{
	u32 ds, es;
	long r;

	__asm__ volatile("xorl %%esi,%%esi\n\tmovl %%esi,%%es\n\t"
			 "movl %%esi,%%ds\n\t" FAST_STUB
			 "movl %%ds,%1\n\tmovl %%es,%2\n\t"
			 "pushl %%ss\n\tpopl %%ds\n\tpushl %%ss\n\tpopl %%es"
			 : "=a" (r), "=&S" (ds), "=&D" (es)
			 : "0" (NR_getppid), "b" (0)
			 : "ecx", "edx", "memory", "cc");
	CHECK(r == parent && ds == 0 && es == 0);
}

/* A task that entered by int 0x80 leaves the kernel's segments in the registers, and the next
   task on this processor may be in the middle of a fast call. */
static void case_segments_slept(void)
{
	long ten_ms[] = { 0, 10000000 };
	int others[4], i;
	u32 ds, es;

	for (i = 0; i < 4; i++)
		if ((others[i] = forked()) == 0)
			for (;;)
				int80(NR_sched_yield, 0, 0, 0);
	for (i = 0; i < 10; i++) {
		fast(NR_nanosleep, (long)ten_ms, 0, 0);
		__asm__ volatile("movl %%ds,%0\n\tmovl %%es,%1"
				 : "=r" (ds), "=r" (es));
		if (ds != USER_DS || es != USER_DS)
			break;
	}
	for (i = 0; i < 4; i++) {
		int80(NR_kill, others[i], SIGKILL, 0);
		wait_for(others[i]);
	}
	CHECK(ds == USER_DS && es == USER_DS);
}

/* ds and es with a base and a limit with which the kernel must not run */
static void case_ldt_data(void)
{
	struct ldt_entry e = { 1, 0x1000, 0xff, LDT_32BIT | LDT_USEABLE };
	u32 ds;
	long r;

	CHECK(int80(NR_modify_ldt, 1, (long)&e, sizeof(e)) == 0);
	__asm__ volatile("movl $0xf,%%esi\n\tmovl %%esi,%%es\n\t"
			 "movl %%esi,%%ds\n\t" FAST_STUB
			 "movl %%ds,%1\n\t"
			 "pushl %%ss\n\tpopl %%ds\n\tpushl %%ss\n\tpopl %%es"
			 : "=a" (r), "=&S" (ds) : "0" (NR_getppid), "b" (0)
			 : "edi", "ecx", "edx", "memory", "cc");
	CHECK(r == parent && ds == 0xf);
}

/* A call from a 16-bit code segment. It returns to the flat code segment. SYSCALL returns to
   the offset behind it, so there the segment has base 0 and the place is the same. */
static void case_code_16bit(void)
{
	struct ldt_entry e = { 0, 0, 0xffff, LDT_CODE | LDT_USEABLE };
	static struct { u32 offset; unsigned short selector; }
		__attribute__((packed)) far = { 0x8000, 7 };
	unsigned char *code = (unsigned char *)0x8000;
	long r;

	CHECK(mapping(0x8000, 4096) == 0x8000);
	CHECK(int80(NR_modify_ldt, 1, (long)&e, sizeof(e)) == 0);
	code[0] = 0x0f;
	code[1] = ENTER_BYTE;
	code[4] = 0xc3;				/* ret, at SYSCALL's return */
	__asm__ volatile("pushl %%ebp\n\t"
#ifdef BY_SYSCALL
			 "pushl $1f\n\tmovl %%esp,%%ebp\n\t"
#else
			 "movl %%esp,%%ebp\n\tpushl $1f\n\t"
#endif
			 "ljmp *%1\n1:\tpopl %%ebp"
			 : "=a" (r) : "m" (far), "0" (NR_getppid), "b" (0)
			 : "ecx", "edx", "memory", "cc");
	CHECK(r == parent);
}

static void alarm_in(int ms, int every)
{
	long timer[4] = { 0, every * 1000, 0, ms * 1000 };

	int80(NR_setitimer, 0, (long)timer, 0);
}

static void case_interrupted(void)
{
	on_signal(SIGALRM, note_signal, 0);
	alarm_in(30, 0);
	CHECK(fast(NR_pause, 0, 0, 0) == -EINTR);
	CHECK(signals == 1);
}

/* Signals interrupt a read, and the kernel restarts it by eip - 2. */
static void case_restarted(void)
{
	int p[2], pid;
	char bytes[4];
	long r;

	int80(NR_pipe, (long)p, 0, 0);
	pid = forked();
	if (pid == 0) {
		sleep_ms(300);
		int80(NR_write, p[1], (long)"hi", 2);
		int80(NR_exit, 0, 0, 0);
	}
	on_signal(SIGALRM, note_signal, SA_RESTART);
	alarm_in(20, 20);
	r = fast(NR_read, p[0], (long)bytes, 2);
	alarm_in(0, 0);
	CHECK(r == 2 && bytes[0] == 'h' && bytes[1] == 'i');
	CHECK(signals >= 3);
	wait_for(pid);
}

static void case_stopped(void)
{
	int pid = forked();

	if (pid == 0) {
		long wait[2] = { 0, 200000000 };
		long r = fast(NR_nanosleep, (long)wait, (long)wait, 0);

		int80(NR_exit, r == 0 || r == -EINTR ? 7 : 1, 0, 0);
	}
	sleep_ms(40);
	int80(NR_kill, pid, SIGSTOP, 0);
	sleep_ms(40);
	int80(NR_kill, pid, SIGCONT, 0);
	CHECK(EXITED(wait_for(pid)) == 7);
}

static void case_sigsuspend(void)
{
	on_signal(SIGALRM, note_signal, 0);
	alarm_in(30, 0);
	CHECK(fast(NR_sigsuspend, 0, 0, 0) == -EINTR);
	CHECK(signals == 1);
}

static void nested(int sig)
{
	if (fast(NR_getppid, 0, 0, 0) == parent)
		signals++;
}

static void case_call_in_handler(void)
{
	on_signal(SIGUSR1, nested, 0);
	CHECK(fast(NR_kill, int80(NR_getpid, 0, 0, 0), SIGUSR1, 0) == 0);
	CHECK(signals == 1);
}

static void case_fork(void)
{
	long pid = fast(NR_fork, 0, 0, 0);

	if (pid == 0)
		int80(NR_exit, fast(NR_getppid, 0, 0, 0) > 0 ? 7 : 1, 0, 0);
	CHECK(pid > 0);
	CHECK(EXITED(wait_for(pid)) == 7);
	pid = fast(NR_clone, SIGCHLD, 0, 0);
	if (pid == 0)
		int80(NR_exit, 8, 0, 0);
	CHECK(EXITED(wait_for(pid)) == 8);
}

static void case_execve(void)
{
	char *argv[] = { "/init", "exit", "9", 0 }, *none[] = { 0 };
	int pid = forked();

	if (pid == 0) {
		fast(NR_execve, (long)argv[0], (long)argv, (long)none);
		int80(NR_exit, 1, 0, 0);
	}
	CHECK(EXITED(wait_for(pid)) == 9);
}

enum { PTRACE_TRACEME, PTRACE_PEEKUSER = 3, PTRACE_POKEUSER = 6,
       PTRACE_CONT, PTRACE_SINGLESTEP = 9, PTRACE_ATTACH = 16,
       PTRACE_DETACH, PTRACE_SYSCALL = 24 };
enum { USER_ORIG_EAX = 11 * 4, USER_DEBUGREG = 63 * 4 };

static long peek_user(int pid, long at)
{
	long value = 0;

	int80_5(NR_ptrace, PTRACE_PEEKUSER, pid, at, (long)&value, 0);
	return value;
}

/* A tracer must see each call twice, with its number. */
static void case_traced(void)
{
	int pid = forked(), status, i, stops = 0, seen = 0;

	if (pid == 0) {
		long r = 0;

		int80(NR_ptrace, PTRACE_TRACEME, 0, 0);
		int80(NR_kill, int80(NR_getpid, 0, 0, 0), SIGSTOP, 0);
		for (i = 0; i < 5; i++)
			r = fast(NR_getppid, 0, 0, 0);
		int80(NR_exit, r > 0 ? 6 : 1, 0, 0);
	}
	for (;;) {
		status = wait_for(pid);
		if (!STOPPED(status))
			break;
		if (STOPSIG(status) == SIGTRAP) {
			stops++;
			if (peek_user(pid, USER_ORIG_EAX) == NR_getppid)
				seen++;
		}
		int80_5(NR_ptrace, PTRACE_SYSCALL, pid, 1, 0, 0);
	}
	CHECK(EXITED(status) == 6);
	CHECK(seen == 10 && stops >= 11);
}

/* Single steps through the stub. The tracer must not lose its child. */
static void case_stepped(void)
{
	int pid = forked(), status, steps = 0;

	if (pid == 0) {
		int80(NR_ptrace, PTRACE_TRACEME, 0, 0);
		int80(NR_kill, int80(NR_getpid, 0, 0, 0), SIGSTOP, 0);
		fast(NR_getppid, 0, 0, 0);
		fast(NR_getppid, 0, 0, 0);
		int80(NR_exit, 6, 0, 0);
	}
	while (STOPPED(status = wait_for(pid))) {
		steps++;
		int80_5(NR_ptrace, PTRACE_SINGLESTEP, pid, 1, 0, 0);
	}
	CHECK(EXITED(status) == 6 && steps > 12);
}

static void case_attached(void)
{
	int p[2], pid, status;

	int80(NR_pipe, (long)p, 0, 0);
	pid = forked();
	if (pid == 0) {
		char byte;

		int80(NR_exit, fast(NR_read, p[0], (long)&byte, 1) == 1 ? 5 : 6,
		      0, 0);
	}
	sleep_ms(50);
	CHECK(int80_5(NR_ptrace, PTRACE_ATTACH, pid, 0, 0, 0) == 0);
	status = wait_for(pid);
	CHECK(STOPPED(status));
	int80_5(NR_ptrace, PTRACE_DETACH, pid, 1, 0, 0);
	sleep_ms(20);
	int80(NR_write, p[1], (long)"x", 1);
	CHECK(EXITED(wait_for(pid)) == 5);
}

/* A watchpoint on the word that a move to SS reads, just before the entry. The trap is held
   back until after the entry (CVE-2018-8897). */
static void case_mov_ss(void)
{
	static u32 ss_word __attribute__((aligned(4)));
	int pid, status, i;

	__asm__ volatile("movl %%ss,%0" : "=r" (ss_word));
	pid = forked();
	if (pid == 0) {
		long r;

		int80(NR_ptrace, PTRACE_TRACEME, 0, 0);
		int80(NR_kill, int80(NR_getpid, 0, 0, 0), SIGSTOP, 0);
		__asm__ volatile("pushl %%ebp\n\t" ENTER_WITH("movw %1,%%ss\n\t")
				 "popl %%ebp"
				 : "=a" (r) : "m" (ss_word), "0" (NR_getppid),
				 "b" (0) : "ecx", "edx", "memory", "cc");
		int80(NR_exit, r > 0 ? 6 : 1, 0, 0);
	}
	wait_for(pid);
	int80_5(NR_ptrace, PTRACE_POKEUSER, pid, USER_DEBUGREG,
		(long)&ss_word, 0);
	int80_5(NR_ptrace, PTRACE_POKEUSER, pid, USER_DEBUGREG + 7 * 4,
		0x000f0001, 0);
	int80_5(NR_ptrace, PTRACE_CONT, pid, 0, 0, 0);
	for (i = 0; i < 4 && STOPPED(status = wait_for(pid)); i++)
		int80_5(NR_ptrace, PTRACE_CONT, pid, 0, 0, 0);
	CHECK(EXITED(status) == 6);
}

struct vm86 {
	u32 ebx, ecx, edx, esi, edi, ebp, eax, null_ds, null_es, null_fs,
	    null_gs, orig_eax, eip, cs, eflags, esp, ss, es, ds, fs, gs;
	u32 flags, screen_bitmap, cpu_type;
	unsigned char int_revectored[32], int21_revectored[32];
};

/* Execute the instruction in vm86 mode. */
static void vm86_enter(u32 eflags)
{
	static struct vm86 v;
	unsigned char *code = (unsigned char *)0x10000;
	u32 stack = 0x11000;

	CHECK(mapping(0x10000, 8192) == 0x10000);
	code[0] = 0x0f;
	code[1] = ENTER_BYTE;
	code[2] = 0xf4;
	((u32 *)stack)[-1] = 0x10002;
	v.cs = 0x1000;
	v.ss = v.ds = v.es = v.fs = v.gs = 0x1000;
	v.esp = 0xf00;
	v.ebp = stack;
	v.eax = NR_getppid;
	v.eflags = eflags;
	v.cpu_type = 5;
	int80(NR_vm86old, (long)&v, 0, 0);
	int80(NR_exit, 1, 0, 0);
}

/* The task stops, and nothing else happens. */
static void case_vm86(void) { vm86_enter(EFLAGS_IF); }

/* What the kernel pushes behind a handler's argument: gs, fs, es, ds, edi, esi, ebp, esp,
   ebx, edx, ecx, eax, trapno, err, eip, cs, eflags, esp again, ss. */
enum { CONTEXT_ESP = 7, CONTEXT_EFLAGS = 16, CONTEXT_SS = 18 };

static u32 monitor_esp;

static void vm86_monitor(int sig)
{
	/* behind %ebp, the return address and the argument */
	const u32 *context = (u32 *)__builtin_frame_address(0) + 3;
	u32 flags;

	__asm__ volatile("pushfl\n\tpopl %0" : "=r" (flags));
	CHECK(!((flags | context[CONTEXT_EFLAGS])
		& (EFLAGS_IOPL | EFLAGS_NT)));
	CHECK(monitor_esp - context[CONTEXT_ESP] + 512 < 1024);
	CHECK(context[CONTEXT_SS] == USER_DS);
	int80(NR_exit, 0, 0, 0);
}

/* With TF, a #DB comes before the entry's first instruction. A frame at the end of the stack
   would overwrite what the kernel keeps there of the 32-bit side: EFLAGS, esp and ss. A
   handler on a stack of its own would go on with these. */
static void case_vm86_tf(void)
{
	static char area[8192];
	u32 stack[3] = { (u32)area, 0, sizeof(area) };

	CHECK(int80(NR_sigaltstack, (long)stack, 0, 0) == 0);
	on_signal(SIGSEGV, vm86_monitor, SA_ONSTACK);
	monitor_esp = (u32)__builtin_frame_address(0);
	vm86_enter(EFLAGS_IF | EFLAGS_TF);
}

static int vm86_faults;

static void vm86_fault(int sig)
{
	vm86_faults++;
	int80(NR_exit, 44, 0, 0);
}

/* The same with a handler in the 32-bit monitor, while other callers of the fast entry
   compete for the processor. */
static void case_vm86_beside(void)
{
	int callers[3], i, round, status;

	for (i = 0; i < 3; i++)
		if ((callers[i] = forked()) == 0)
			for (;;)
				if (fast(NR_getppid, 0, 0, 0) <= 0)
					int80(NR_exit, 1, 0, 0);
	for (round = 0; round < 20; round++) {
		int pid = forked();

		if (pid == 0) {
			on_signal(SIGSEGV, vm86_fault, 0);
			case_vm86();
		}
		status = wait_for(pid);
		if (EXITED(status) != 44)
			break;
	}
	for (i = 0; i < 3; i++) {
		int80(NR_kill, callers[i], SIGKILL, 0);
		CHECK(SIGNALED(wait_for(callers[i])) == SIGKILL);
	}
	CHECK(round == 20);
}

/* With vm86 and with whatever EFLAGS the callers have. A task that yields the processor in
   every call must not see another task's flags. */
static void case_flag_leak(void)
{
	int odd, i;
	u32 after;

	odd = forked();
	if (odd == 0) {
		int80(NR_iopl, 3, 0, 0);
		for (;;) {
			long yield = NR_sched_yield;

			__asm__ volatile("pushfl\n\torl $0x44000,(%%esp)\n\t"
					 "popfl\n\tint $0x80"
					 : "+a" (yield) : : "memory", "cc");
		}
	}
	for (i = 0; i < 2000; i++) {
		fast(NR_sched_yield, 0, 0, 0);
		if (with_flags(0, &after) != parent
		    || after & (EFLAGS_IOPL | EFLAGS_AC | EFLAGS_NT))
			break;
	}
	int80(NR_kill, odd, SIGKILL, 0);
	wait_for(odd);
	CHECK(i == 2000);
}

#ifdef BY_SYSCALL
#define BY(syscall, sysenter) syscall
#else
#define BY(syscall, sysenter) sysenter
#endif

enum { OK = 0 };
static const struct {
	const char *name;
	void (*run)(void);
	int signal;
} cases[] = {
	{ "numbers", case_numbers, OK },
	{ "registers", case_registers, OK },
	{ "flags", case_flags, OK },
	{ "iopl", case_iopl, OK },
	{ "tf", case_tf, OK },
	{ "ebp-0", case_ebp_0, SIGSEGV },
	{ "ebp-3", case_ebp_3, SIGSEGV },
	{ "ebp-unmapped", case_ebp_unmapped, SIGSEGV },
	{ "ebp-limit", case_ebp_limit, SIGSEGV },
	{ "ebp-kernel", case_ebp_kernel, SIGSEGV },
	{ "ebp-kernel-stack", case_ebp_kernel_stack, SIGSEGV },
	{ "ebp-top", case_ebp_top, SIGSEGV },
	/* SYSCALL fetches no return address there, so the result is -EFAULT, and the trap comes */
	{ "ebp-0-tf", case_ebp_zero_fault_tf, BY(SIGTRAP, SIGSEGV) },
	{ "return-kernel", case_return_kernel, SIGSEGV },
	{ "argument-unmapped", case_argument_unmapped, OK },
	{ "fresh-stack", case_fresh_stack, OK },
	{ "six-arguments", case_six_arguments, OK },
	{ "segments", case_segments, OK },
	{ "segments-slept", case_segments_slept, OK },
	{ "ldt-data", case_ldt_data, OK },
	{ "code-16bit", case_code_16bit, OK },
	{ "interrupted", case_interrupted, OK },
	{ "restarted", case_restarted, OK },
	{ "stopped", case_stopped, OK },
	{ "sigsuspend", case_sigsuspend, OK },
	{ "call-in-handler", case_call_in_handler, OK },
	{ "fork", case_fork, OK },
	{ "execve", case_execve, OK },
	{ "traced", case_traced, OK },
	{ "stepped", case_stepped, OK },
	{ "attached", case_attached, OK },
	{ "mov-ss", case_mov_ss, OK },
	{ "vm86", case_vm86, SIGSEGV },
	{ "vm86-tf", case_vm86_tf, OK },
	{ "vm86-beside", case_vm86_beside, OK },
	{ "flag-leak", case_flag_leak, OK },
};

int hostile(int argc, char **argv)
{
	u32 i;
	int j, wrong = 0, quiet = argc > 1 && streq(argv[1], "quiet");

	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int wanted = argc > 1 && streq(argv[1], "all"), pid, status, ok;

		for (j = 1; j < argc; j++)
			wanted |= streq(argv[j], cases[i].name);
		if (!wanted)
			continue;
		pid = forked();
		if (pid == 0) {
			parent = int80(NR_getppid, 0, 0, 0);
			signals = 0;
			alarm_in(0, 0);
			cases[i].run();
			int80(NR_exit, 0, 0, 0);
		}
		status = wait_for(pid);
		ok = SIGNALED(status) == cases[i].signal
			&& (cases[i].signal || status == 0);
		wrong += !ok;
		if (!quiet || !ok)
			say("{\"event\": \"hostile\", \"case\": \"%s\", "
			    "\"status\": %d, \"signal\": %d, \"ok\": %s}",
			    cases[i].name, EXITED(status), SIGNALED(status),
			    ok ? "true" : "false");
	}
	return -wrong;
}
