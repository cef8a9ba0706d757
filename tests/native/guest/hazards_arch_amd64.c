// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Hostile callers that only amd64 has: the return address and the stack pointer that the caller
 * names, upper halves of registers, the GS base, 32-bit code, and 32-bit calls in between.
 */
#include "hazards_faults.h"
#include <asm/prctl.h>
#include <cpuid.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#define LOST	"rcx", "rsi", "rdx", "rdi", "r8", "r9", "r10", "r11", "memory", "cc"

/* A call by the 32-bit ABI, made by this 64-bit program. */
static long int80(long nr, long a, long b, long c)
{
	long result;

	asm volatile("int $0x80" : "=a"(result) : "0"(nr), "b"(a), "c"(b), "d"(c) : "r8", "r9", "r10", "r11", "memory");
	return (int)result;
}

/* A stock call has no chosen return address. So on stock, jump there instead and compare with that. */
static void to(unsigned long address)
{
	pid_t child = fork();

	if (!child) {
		unsigned long rax = marked(SYS_getppid);

		if (mark)
			asm volatile("movq %%rsp, %%r11\n\tmovq %[to], %%rcx\n\tsysenter" : "+a"(rax) : [to] "r"(address) : LOST);
		else
			asm volatile("jmp *%[to]" : : [to] "r"(address));
		_exit(0);
	}
	note("%lx: ", address);
	note_child(child);
}

/* A return address that is not canonical: SYSRET to it would fault in the kernel. */
static void return_addresses(void)
{
	to(1ul << 47);
	to((1ul << 47) - 1);
	to(1ul << 56);
	to(1ul << 63);
	to(-4096ul);
	to(0xffffffff81000000ul);
	to(0);
}

static void stack_pointers(void)
{
	static const unsigned long stacks[] = { 0, 1, 1ul << 47, 1ul << 63, -1ul, 0xffffffff81000000ul, 0xfffffe0000001000ul };

	for (unsigned int i = 0; i < sizeof(stacks) / sizeof(*stacks); i++) {
		unsigned long rax = marked(SYS_getuid), after;

		if (mark)
			asm volatile("movq %%rsp, %%r12\n\tmovq %[stack], %%r11\n\tleaq 1f(%%rip), %%rcx\n\tsysenter\n\tsyscall\n1:\t"
				     "movq %%rsp, %[after]\n\tmovq %%r12, %%rsp"
				     : "+a"(rax), [after] "=&b"(after) : [stack] "r"(stacks[i]) : "r12", LOST);
		else
			asm volatile("movq %%rsp, %%r12\n\tmovq %[stack], %%rsp\n\tsyscall\n\t"
				     "movq %%rsp, %[after]\n\tmovq %%r12, %%rsp"
				     : "+a"(rax), [after] "=&b"(after) : [stack] "r"(stacks[i]) : "r12", LOST);
		note("%lx: %ld %lx; ", stacks[i], rax, after);
	}
}

/* Numbers and 32-bit arguments with something in their upper halves. */
static void upper_halves(void)
{
	static const long numbers[] = { 1l << 32 | SYS_getuid, 1l << 63 | SYS_getuid, (long)(~0ul << 32) | SYS_getuid, 1l << 40 };

	for (unsigned int i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		struct call c = UNMARKED_CALL(numbers[i], -1, -1, -1, -1, -1, -1);

		c.entry = mark ? stub_page + SYSENTER_STUB_CALL : STOCK_ENTRY;
		enter(&c);
		note("%lx: %ld ", numbers[i], c.nr);
	}
	note("read %ld ", call(SYS_read, 1l << 32 | 999, 0, 0));
	note("lseek %ld ", call(SYS_lseek, 1l << 32 | 999, 1l << 40, 1l << 32));
	note("dup2 %ld ", call(SYS_dup2, 1l << 32 | 1, 1l << 32 | 1));
}

/* The GS base must be the user's after every kind of call. One SWAPGS too many would show. */
static void gs_base(void)
{
	static const unsigned long flags[] = { 0, FLAG_NT, FLAG_AC | FLAG_DF, FLAG_ID };
	static unsigned long base[2] = { 0x6a5e, 0 };
	struct timespec brief = { 0, 1000000 };

	note("set %ld ", syscall(SYS_arch_prctl, ARCH_SET_GS, base));
	for (unsigned int i = 0; i < 12; i++) {
		static const long numbers[] = { SYS_getuid, SYS_sigaltstack, SYS_nanosleep };
		unsigned long read, *stored = NULL;
		struct call c = CALL(numbers[i % 3], i % 3 == 2 ? (long)&brief : 0, 0, 0, 0, 0, 0);

		c.flags |= flags[i / 3];
		enter(&c);
		asm volatile("movq %%gs:0, %0" : "=r"(read));
		call(SYS_arch_prctl, ARCH_GET_GS, &stored);
		note("%ld %lx %d ", c.nr, read, stored == base);
	}
}

/* From 32-bit code, with the mark in the upper half of rax, which such code cannot set itself. */
static void from_32_bit_code(void)
{
	unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	int status = 0;
	pid_t child;

	code[0] = 0x0f;
	code[1] = 0x34;		/* sysenter */
	child = fork();
	if (!child) {
		unsigned long rax = marked(SYS_getppid);
		/* not by lret: QEMU 7.2 pops its operands with the kernel's rights (SMAP) */
		struct { uint32_t offset; uint16_t selector; } target = { (uintptr_t)code, 0x23 };

		asm volatile("movq %%rsp, %%r11\n\tleaq 1f(%%rip), %%rcx\n\tljmpl *%[target]\n1:"
			     : "+a"(rax) : [target] "m"(target) : LOST);
		_exit((pid_t)rax != getppid());
	}
	/* it may work or fail, because the processor may lose the upper halves; it must do no harm */
	waitpid(child, &status, 0);
	note("%s ", (WIFEXITED(status) && !WEXITSTATUS(status)) || WIFSIGNALED(status) ? "unharmed" : "odd");
}

/*
 * 64-bit code that 32-bit code jumps to, and that jumps back to it, around each call: the call must
 * come back to 64-bit code, whichever way out it takes. The processor may lose the upper halves of
 * registers on the way, so all values are in memory, beside the code and below 4 GiB.
 */
struct between { uint64_t nr, argument, flags, cs, entry, stack, back; struct { uint32_t offset; uint16_t selector; } out; };
extern const char between_code[], between_64[], between_32[], between_end[], between_values[];
asm(".pushsection .rodata\n"
    "	.balign	16\n"
    "between_code:\n"			/* in 32-bit code */
    "	.byte	0xea\n"			/* ljmp: the offset is written when its place is known */
    "	.long	between_64 - between_code\n"
    "	.word	0x33\n"
    "between_64:\n"
    "	movq	between_values + 40(%rip), %rsp\n"
    "	movq	between_values(%rip), %rax\n"
    "	movq	between_values + 8(%rip), %rdi\n"
    "	xorl	%esi, %esi\n"
    "	pushq	between_values + 16(%rip)\n"
    "	popfq\n"
    "	call	*between_values + 32(%rip)\n"
    "	pushfq\n"
    "	popq	between_values + 16(%rip)\n"
    "	movq	%rax, between_values(%rip)\n"
    "	movl	%cs, %eax\n"
    "	movq	%rax, between_values + 24(%rip)\n"
    "	pushq	$0x202\n"
    "	popfq\n"
    "	ljmpl	*between_values + 56(%rip)\n"
    "between_32:\n"			/* in 32-bit code again */
    "	.byte	0xea\n"
    "	.long	between_out - between_code\n"
    "	.word	0x33\n"
    "between_out:\n"
    "	movq	between_values + 40(%rip), %rsp\n"
    "	jmp	*between_values + 48(%rip)\n"
    "	.balign	16\n"
    "between_values:\n"
    "	.fill	64\n"
    "between_end:\n"
    ".popsection");

static void between_32_bit_code(void)
{
	static const struct { long nr; unsigned long flags; } tried[] = {
		{ SYS_getuid, 0 }, { SYS_getuid, FLAG_ID }, { SYS_nanosleep, 0 }, { SYS_sigaltstack, 0 }, { NO_SUCH_CALL, 0 },
	};
	char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	struct between *values = (void *)(low + (between_values - between_code));
	struct timespec *brief = (void *)(low + 2048);

	*brief = (struct timespec){ 0, 1000000 };
	memcpy(low, between_code, between_end - between_code);
	for (int i = 0; i < 2; i++) {
		char *offset = low + (i ? between_32 - between_code : 0) + 1;
		uint32_t at;

		memcpy(&at, offset, sizeof(at));
		at += (uintptr_t)low;
		memcpy(offset, &at, sizeof(at));
	}
	for (unsigned int i = 0; i < sizeof(tried) / sizeof(*tried); i++) {
		struct { uint32_t offset; uint16_t selector; } in = { (uintptr_t)low, 0x23 };

		*values = (struct between){
			.nr = marked(tried[i].nr), .argument = tried[i].nr == SYS_nanosleep ? (uintptr_t)brief : 0,
			.flags = 0x202 | tried[i].flags, .entry = (uintptr_t)entry_for(tried[i].nr),
			.out = { (uintptr_t)low + (between_32 - between_code), 0x23 },
		};
		asm volatile("	subq	$128, %%rsp\n"		/* the red zone */
			     "	pushq	%%rbx\n	pushq	%%rbp\n	pushq	%%r12\n	pushq	%%r13\n	pushq	%%r14\n	pushq	%%r15\n"
			     "	movq	%%rsp, 40(%[values])\n"
			     "	leaq	1f(%%rip), %%rax\n"
			     "	movq	%%rax, 48(%[values])\n"
			     "	ljmpl	*(%[in])\n"
			     "1:	popq	%%r15\n	popq	%%r14\n	popq	%%r13\n	popq	%%r12\n	popq	%%rbp\n	popq	%%rbx\n"
			     "	subq	$-128, %%rsp\n"
			     : : [values] "D"(values), [in] "S"(&in) : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
		note("%ld cs %lx flags %lx; ", (long)values->nr, (unsigned long)values->cs,
		     (unsigned long)values->flags & FLAGS_KEPT);
	}
}

/* Calls by the 32-bit ABI between our calls. Neither may leave the mark of its ABI to the next. */
static void other_abi_between(void)
{
	struct timespec brief = { 0, 1000000 };

	for (int i = 0; i < 3; i++) {
		note("%ld ", call(SYS_getuid));
		note("%ld ", int80(199, 0, 0, 0));		/* i386's getuid32 */
		note("%ld ", call(SYS_nanosleep, &brief, 0));
		note("%ld ", int80(600, 0, 0, 0));
		note("%ld ", call(SYS_lseek, -1, 1l << 40, 0));
	}
}

/* A filter must see each call with its own architecture (CVE-2009-0835). */
static void filter_of_other_abi(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_I386, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getuid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 78),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	note("filter %ld ", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
	note("%ld %ld %ld %ld ", call(SYS_getuid), int80(199, 0, 0, 0), call(SYS_getgid), call(SYS_getuid));
}

/* Strict seccomp must judge by the call's ABI. 1 is exit on i386 and write on amd64; 60 is umask and exit. */
static void strict_of_other_abi(void)
{
	for (int i = 0; i < 4; i++) {
		pid_t child = fork();

		if (!child) {
			call(SYS_getuid);
			prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
			if (i == 0)
				int80(1, 5, 0, 0);
			else if (i == 1)
				int80(60, 5, 0, 0);
			else if (i == 2)
				call(SYS_exit, 6);
			call(SYS_getuid);
		}
		note_child(child);
	}
}

static unsigned int pkru(void)
{
	unsigned int eax, edx;

	asm volatile("rdpkru" : "=a"(eax), "=d"(edx) : "c"(0));
	return eax;
}

static void set_pkru(unsigned int value)
{
	asm volatile("wrpkru" : : "a"(value), "c"(0), "d"(0) : "memory");
}

/* The caller's protection keys also hold for copies that the kernel makes, and are preserved. */
static void protection_keys(void)
{
	uid_t *ids = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct timespec brief = { 0, 1000000 };
	unsigned int open_keys, eax, ebx, ecx = 0, edx;
	long key;

	if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSPKE)) {
		note("this processor has none ");
		return;
	}
	key = call(SYS_pkey_alloc, 0, 0);
	note("key %ld ", key);
	if (key < 0)
		return;
	note("%ld ", call(SYS_pkey_mprotect, ids, 4096, PROT_READ | PROT_WRITE, key));
	open_keys = pkru();
	for (int i = 0; i < 3; i++) {
		set_pkru(open_keys | 3u << 2 * key);
		note("denied %ld ", call(SYS_getresuid, ids, ids + 1, ids + 2));
		call(i & 1 ? SYS_nanosleep : SYS_sched_yield, &brief, 0);
		note("kept %d ", pkru() == (open_keys | 3u << 2 * key));
		set_pkru(open_keys);
		note("let %ld ", call(SYS_getresuid, ids, ids + 1, ids + 2));
	}
}

/*
 * A restartable sequence that contains both stubs, with a call in it that sleeps. rseq(2) forbids
 * such a call. Our entry must do with it what the kernel's does.
 */
static struct { uint32_t version, flags; uint64_t start, length, abort; } __attribute__((aligned(32))) sequence;
extern const char sequence_aborted[];
asm(".pushsection .text\n"
    "	.byte	0x0f, 0xb9, 0x3d\n"
    "	.long	0x53053053\n"			/* RSEQ_SIG */
    "sequence_aborted:\n"
    "	movq	$-1234, %rax\n"
    "	ret\n"
    ".popsection");

static void rseq_over_the_stub(void)
{
	struct rseq *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
	volatile uint64_t *current = (void *)&area->rseq_cs;
	struct timespec brief = { 0, 2000000 };
	int aborted = 0, odd = 0;

	sequence.start = (uintptr_t)fast_stub;
	sequence.length = (uintptr_t)stock_return + 1 - sequence.start;
	sequence.abort = (uintptr_t)sequence_aborted;
		/* not every time: a task that loses the CPU before the stub loses the sequence too */
	for (int i = 0; i < 30; i++) {
		struct call c = CALL(SYS_nanosleep, &brief, 0, 0, 0, 0, 0);

		*current = (uintptr_t)&sequence;
		enter(&c);
		*current = 0;
		aborted += c.nr == -1234;
		odd += c.nr != -1234 && c.nr != 0;
	}
	note("aborted %s odd %d ", aborted ? "some" : "never", odd);
}

HAZARDS(
	{ "protection keys", "protection_keys", protection_keys, 0 },
	{ "restartable sequence around the stub", "rseq_over_the_stub", rseq_over_the_stub, 0 },
	{ "return address that is not canonical", "return_addresses", return_addresses, 0 },
	{ "stack pointer", "stack_pointers", stack_pointers, 0 },
	{ "upper halves of registers", "upper_halves", upper_halves, 0 },
	{ "GS base", "gs_base", gs_base, 0 },
	{ "SYSENTER from 32-bit code", "from_32_bit_code", from_32_bit_code, 0 },
	{ "32-bit code around each call", "between_32_bit_code", between_32_bit_code, 0 },
	{ "calls by the 32-bit ABI in between", "other_abi_between", other_abi_between, 0 },
	{ "seccomp: the other ABI", "filter_of_other_abi", filter_of_other_abi, 0 },
	{ "seccomp: the other ABI, strict", "strict_of_other_abi", strict_of_other_abi, 0 }
)
