// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the entry must survive, on amd64: each case is a mistake that some entry
 * code has made. Runs each in a child; says [OK] or [FAIL] for it; exits with the
 * number of failures. The kernel's log is for the caller to look at.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "abi.h"

#define FAST	"movq %%rsp, %%r11\n\tleaq 77f(%%rip), %%rcx\n\tsysenter\n\tsyscall\n77:\n\t"
#define STOCK	"syscall\n\t"
#define MARK(nr)	((long)(nr) + SYSENTER_MARK_AMD64)
#define LOST	"rcx", "r8", "r9", "r10", "r11", "memory", "cc"

#define CHECK(condition) do {							\
	if (!(condition)) {							\
		printf("line %d: %s (errno %d) ", __LINE__, #condition, errno);	\
		fflush(stdout);							\
		_exit(1);							\
	}									\
} while (0)

static volatile sig_atomic_t signals;
static pid_t parent;

static void on_signal(int number)
{
	(void)number;
	signals++;
}

static long fast(long nr, long a, long b, long c)
{
	long result;

	asm volatile(FAST : "=a"(result), "+D"(a), "+S"(b), "+d"(c) : "0"(MARK(nr)) : LOST);
	return result;
}

static long fast6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 asm("r10") = d;
	register long r8 asm("r8") = e;
	register long r9 asm("r9") = f;
	long result;

	asm volatile(FAST : "=a"(result), "+D"(a), "+S"(b), "+d"(c), "+r"(r10), "+r"(r8), "+r"(r9)
		     : "0"(MARK(nr)) : "rcx", "r11", "memory", "cc");
	return result;
}

/* CVE-2013-1917 (NT) and its kin: flags that SYSENTER takes into the kernel */
static void flags_of_the_caller(void)
{
	static const unsigned long odd[] = { 0x4000, 0x40000, 0x400, 0x200000, 0x1, 0x44400, 0x240000, 0x204400 };

	for (unsigned int i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		unsigned long after, rax = MARK(SYS_getppid), rdi = odd[i], rsi = 0, rdx = 0;

		asm volatile("pushfq\n\torq %[odd], (%%rsp)\n\tpopfq\n\t" FAST
			     "pushfq\n\tpopq %[after]\n\tpushq $0x202\n\tpopfq\n\t"
			     : "+a"(rax), [after] "=&b"(after), "+D"(rdi), "+S"(rsi), "+d"(rdx)
			     : [odd] "r"(odd[i]) : LOST);
		CHECK((long)rax == parent);
		/* all but the arithmetic flags are kept */
		CHECK(((after ^ odd[i]) & 0x244400) == 0);
	}
}

#define TRAPS(call, number) ({							\
	unsigned long rax = number, rdi = 0, rsi = 0, rdx = 0;			\
	signals = 0;								\
	asm volatile("pushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\tnop\n\t" call	\
		     "nop\n\tnop\n\tpushfq\n\tandl $~0x100, (%%rsp)\n\tpopfq"	\
		     : "+a"(rax), "+D"(rdi), "+S"(rsi), "+d"(rdx) : : LOST);	\
	CHECK((pid_t)rax == parent);						\
	signals;								\
})

/* TF at SYSENTER: #DB in the kernel's first instructions; as many traps as stock */
static void single_step(void)
{
	int stock, ours;

	signal(SIGTRAP, on_signal);
	stock = TRAPS("movq %%rsp, %%r11\n\tleaq 1f(%%rip), %%rcx\n\tsyscall\n1:\n\t", SYS_getppid);
	ours = TRAPS(FAST, MARK(SYS_getppid));
	CHECK(stock > 5 && ours == stock);
}

/* CVE-2012-0217: SYSRET to a non-canonical address faults in the kernel */
static void to(unsigned long address)
{
	int status;
	pid_t child = fork();

	if (!child) {
		unsigned long rax = MARK(SYS_getppid);

		asm volatile("movq %%rsp, %%r11\n\tmovq %[to], %%rcx\n\tsysenter" : "+a"(rax) : [to] "r"(address) : LOST);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFSIGNALED(status) && (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS));
}

static void return_addresses(void)
{
	to(1UL << 47);
	to((1UL << 47) - 1);
	to(1UL << 56);
	to(1UL << 63);
	to(-4096UL);
	to(0xffffffff81000000UL);
	to(0);
}

static void stack_pointers(void)
{
	static const unsigned long stacks[] = { 0, 1, 1UL << 47, 1UL << 63, -1UL, 0xffffffff81000000UL, 0xfffffe0000001000UL };

	for (unsigned int i = 0; i < sizeof(stacks) / sizeof(*stacks); i++) {
		unsigned long rax = MARK(SYS_getppid), rdi = 0, rsi = 0, rdx = 0, after;

		asm volatile("movq %%rsp, %%r12\n\tmovq %[stack], %%r11\n\tleaq 1f(%%rip), %%rcx\n\tsysenter\n\tsyscall\n1:\n\t"
			     "movq %%rsp, %[after]\n\tmovq %%r12, %%rsp"
			     : "+a"(rax), [after] "=&b"(after), "+D"(rdi), "+S"(rsi), "+d"(rdx)
			     : [stack] "r"(stacks[i]) : "r12", LOST);
		CHECK((pid_t)rax == parent && after == stacks[i]);
	}
}

/* CVE-2014-4508, CVE-2010-3301: numbers without a call, numbers with more bits */
static void numbers(void)
{
	for (int nr = 480; nr < SYSENTER_NR; nr++)
		CHECK(fast(nr, -1, -1, -1) == -ENOSYS);
	CHECK(fast(SYS_read, -1, 0, 0) == -EBADF);
	CHECK(fast(SYS_read, 0x100000000L | 7, 0, 0) == -EBADF);	/* CVE-2009-0029 */
}

/* nothing of the kernel's in any register; what a C function keeps is kept */
static void registers(void)
{
	unsigned long r[16] = { 0 }, rax = MARK(SYS_getppid);

	asm volatile("movl $11, %%ebx\n\tmovl $12, %%r12d\n\tmovl $13, %%r13d\n\tmovl $14, %%r14d\n\tmovl $15, %%r15d\n\t"
		     "pushq %%rbp\n\tmovl $16, %%ebp\n\tpushq %[r]\n\t" FAST
		     "xchgq %[r], (%%rsp)\n\t"
		     "popq 8(%[r])\n\t"		/* what r held */
		     "movq %%rax, (%[r])\n\tmovq %%rbx, 16(%[r])\n\tmovq %%rcx, 24(%[r])\n\tmovq %%rdx, 32(%[r])\n\t"
		     "movq %%rsi, 40(%[r])\n\tmovq %%r8, 48(%[r])\n\tmovq %%r9, 56(%[r])\n\tmovq %%r10, 64(%[r])\n\t"
		     "movq %%r11, 72(%[r])\n\tmovq %%r12, 80(%[r])\n\tmovq %%r13, 88(%[r])\n\tmovq %%r14, 96(%[r])\n\t"
		     "movq %%r15, 104(%[r])\n\tmovq %%rbp, 112(%[r])\n\tpopq %%rbp"
		     : "+a"(rax) : [r] "D"(r) : "rbx", "rdx", "rsi", "r12", "r13", "r14", "r15", LOST);
	CHECK(r[2] == 11 && r[10] == 12 && r[11] == 13 && r[12] == 14 && r[13] == 15 && r[14] == 16);
	for (int i = 0; i < 15; i++)
		CHECK(r[i] < 1UL << 47);
}

static void interrupted_and_restarted(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct timespec time = { 0, 60000000 };
	int fds[2], status;
	char two[2];
	pid_t child;

	CHECK(!sigaction(SIGALRM, &action, NULL));
	ualarm(20000, 0);
	CHECK(fast(SYS_pause, 0, 0, 0) == -EINTR && signals == 1);
	action.sa_flags = SA_RESTART;
	CHECK(!sigaction(SIGALRM, &action, NULL) && !pipe(fds));
	child = fork();
	if (!child) {
		usleep(100000);
		_exit(write(fds[1], "hi", 2) != 2);
	}
	signals = 0;
	ualarm(10000, 10000);
	CHECK(fast(SYS_read, fds[0], (long)two, 2) == 2 && !memcmp(two, "hi", 2) && signals);
	ualarm(0, 0);
	CHECK(waitpid(child, &status, 0) == child && !status);
	child = fork();
	if (!child)
		_exit(fast(SYS_nanosleep, (long)&time, 0, 0) != 0);
	usleep(10000);
	CHECK(!kill(child, SIGSTOP));
	usleep(20000);
	CHECK(!kill(child, SIGCONT) && waitpid(child, &status, 0) == child && !status);
}

static void six_arguments(void)
{
	char *page = (char *)fast6(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK((unsigned long)page < -4096UL);
	page[4095] = 1;
	CHECK(fast(SYS_munmap, (long)page, 4096, 0) == 0);
	CHECK(fast6(SYS_pread64, open("/proc/self/exe", O_RDONLY), (long)page - 4096, 1, 0, 0, 0) == -EFAULT);
}

/* calls outside the fast table get the caller's registers whole */
static void slow_calls(void)
{
	char *arguments[] = { "true", NULL };
	int status;
	pid_t child = fast(SYS_fork, 0, 0, 0);

	if (!child)
		_exit(7);
	CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
	child = fork();
	if (!child) {
		fast(SYS_execve, (long)"/bin/true", (long)arguments, 0);
		_exit(9);
	}
	CHECK(waitpid(child, &status, 0) == child && !status);
}

/* every call of a traced program stops twice, with the registers of the call */
static void traced(void)
{
	struct user_regs_struct regs;
	int status, entries = 0, all = 0;
	pid_t child = fork();

	if (!child) {
		long sum = 0;

		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		for (int i = 0; i < 5; i++)
			sum += fast(SYS_lseek, -1, 0x1234567890L, 77);
		_exit(sum != -5 * EBADF);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
	CHECK(!ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD));
	while (!ptrace(PTRACE_SYSCALL, child, 0, 0) && waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
		CHECK(WSTOPSIG(status) == (SIGTRAP | 0x80));
		CHECK(!ptrace(PTRACE_GETREGS, child, 0, &regs));
		all++;
		if (regs.orig_rax != SYS_lseek)
			continue;
		CHECK(regs.rdi == -1UL && regs.rsi == 0x1234567890UL && regs.rdx == 77 && regs.cs == 0x33 && regs.ss == 0x2b);
		entries += regs.rax == -(unsigned long)ENOSYS;
	}
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(entries == 5 && all >= 11);
}

/* CVE-2014-4699: a debugger attaches to a task asleep inside and moves it */
static void attached_while_asleep(void)
{
	struct user_regs_struct regs;
	int fds[2], status;
	char text[200], byte;
	unsigned long v[9];
	pid_t child;
	FILE *file;

	CHECK(!pipe(fds));
	child = fork();
	if (!child)
		_exit(fast(SYS_read, fds[0], (long)&byte, 1) == 1 ? 5 : 6);
	usleep(50000);
	snprintf(text, sizeof(text), "/proc/%d/syscall", child);
	file = fopen(text, "r");
	CHECK(file && fgets(text, sizeof(text), file));
	fclose(file);
	CHECK(sscanf(text, "%lu %lx %lx %lx %lx %lx %lx %lx %lx", v, v + 1, v + 2, v + 3, v + 4, v + 5, v + 6, v + 7, v + 8) == 9);
	CHECK(v[0] == SYS_read && v[1] == (unsigned long)fds[0] && v[2] == (unsigned long)&byte && v[3] == 1);
	for (int i = 4; i < 9; i++)
		CHECK(v[i] < 1UL << 47);

	CHECK(!ptrace(PTRACE_ATTACH, child, 0, 0) && waitpid(child, &status, 0) == child && WIFSTOPPED(status));
	CHECK(!ptrace(PTRACE_GETREGS, child, 0, &regs));
	CHECK(regs.orig_rax == SYS_read && regs.ss == 0x2b && regs.cs == 0x33 && (regs.eflags & 0x200));
	CHECK(regs.rip == v[8] && regs.rsp == v[7] && regs.rdi == v[1]);
	CHECK(!ptrace(PTRACE_DETACH, child, 0, 0));
	usleep(20000);
	CHECK(write(fds[1], "x", 1) == 1 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5);

	/* sent to a non-canonical address, it must die and nothing else */
	child = fork();
	if (!child)
		_exit(fast(SYS_read, fds[0], (long)&byte, 1) == 1 ? 5 : 6);
	usleep(30000);
	CHECK(!ptrace(PTRACE_ATTACH, child, 0, 0) && waitpid(child, &status, 0) == child);
	CHECK(!ptrace(PTRACE_GETREGS, child, 0, &regs));
	regs.rip = 1UL << 47;
	regs.orig_rax = -1;
	if (!ptrace(PTRACE_SETREGS, child, 0, &regs)) {
		CHECK(!ptrace(PTRACE_DETACH, child, 0, 0));
		CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
	} else {
		kill(child, SIGKILL);
	}
}

/* CVE-2009-0835: a filter must see the call, under the right architecture */
static void filtered(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xc000003e, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 42),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 6, code };
	int status;
	pid_t child = fork();

	if (!child) {
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
		fast(SYS_getppid, 0, 0, 0);
		syscall(SYS_exit, 0);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	CHECK(fast(SYS_getppid, 0, 0, 0) == -42);
}

/* from 32-bit code, with the mark in the upper half that such code cannot set */
static void from_32_bit_code(void)
{
	unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	int status;
	pid_t child;

	CHECK(code != MAP_FAILED);
	code[0] = 0x0f;
	code[1] = 0x34;		/* sysenter */
	child = fork();
	if (!child) {
		unsigned long rax = MARK(SYS_getppid), rdi = 0, rsi = 0, rdx = 0;
		/* not by lret: QEMU 7.2 pops its operands with the kernel's rights (SMAP) */
		struct { uint32_t offset; uint16_t selector; } target = { (uintptr_t)code, 0x23 };

		asm volatile("movq %%rsp, %%r11\n\tleaq 1f(%%rip), %%rcx\n\tljmpl *%[target]\n1:"
			     : "+a"(rax), "+D"(rdi), "+S"(rsi), "+d"(rdx) : [target] "m"(target) : LOST);
		_exit((pid_t)rax != getppid());
	}
	/* it may work or fail, for the processor may lose the upper halves; only not harm */
	CHECK(waitpid(child, &status, 0) == child);
	CHECK((WIFEXITED(status) && !WEXITSTATUS(status)) || WIFSIGNALED(status));
}

static void *many(void *wrong)
{
	for (int i = 0; i < 100000; i++)
		*(long *)wrong += fast(SYS_getppid, 0, 0, 0) != parent;
	return NULL;
}

static void threads_and_signals(void)
{
	pthread_t threads[4];
	long wrong[4] = { 0 };

	signal(SIGALRM, on_signal);
	ualarm(1000, 1000);
	for (int i = 0; i < 4; i++)
		CHECK(!pthread_create(&threads[i], NULL, many, &wrong[i]));
	for (int i = 0; i < 4; i++) {
		CHECK(!pthread_join(threads[i], NULL));
		CHECK(!wrong[i]);
	}
	ualarm(0, 0);
	CHECK(signals);
}

static const struct {
	const char	*name;
	void		(*run)(void);
} cases[] = {
#define CASE(name)	{ #name, name }
	CASE(flags_of_the_caller), CASE(single_step), CASE(return_addresses), CASE(stack_pointers), CASE(numbers),
	CASE(registers), CASE(interrupted_and_restarted), CASE(six_arguments), CASE(slow_calls), CASE(traced),
	CASE(attached_while_asleep), CASE(filtered), CASE(from_32_bit_code), CASE(threads_and_signals),
};

int main(void)
{
	int device = open("/dev/sysenter", O_RDONLY), failures = 0;

	if (device < 0 || mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, device, 0) == MAP_FAILED) {
		printf("[SKIP] no /dev/sysenter\n");
		return 4;
	}
	setvbuf(stdout, NULL, _IONBF, 0);
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int status;
		pid_t child = fork();

		if (!child) {
			parent = getppid();
			cases[i].run();
			_exit(0);
		}
		waitpid(child, &status, 0);
		failures += status != 0;
		printf("[%s] %s", status ? "FAIL" : "OK", cases[i].name);
		printf(WIFSIGNALED(status) ? " (signal %d)\n" : "\n", WTERMSIG(status));
	}
	return failures;
}
