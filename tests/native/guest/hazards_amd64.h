/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * amd64: a system call with chosen values in every register, and the names of its registers.
 * hazards_i386.h is the same for i386.
 *
 * enter() loads registers, flags and segments from a struct call, calls the entry that it names
 * (fast_stub, stock_stub, or the mapped page), and stores the values that come back.
 */
#ifndef HAZARDS_AMD64_H
#define HAZARDS_AMD64_H

#define MARK		((unsigned long)SYSENTER_MARK_AMD64)
#define FLAG_TF		0x100ul
#define FLAG_DF		0x400ul
#define FLAG_NT		0x4000ul
#define FLAG_AC		0x40000ul
#define FLAG_ID		0x200000ul
/* CF PF AF ZF SF OF: undefined after a marked call */
#define FLAGS_KEPT	(alone ? ~0ul : ~0x8d5ul)
#define CALLER_ARCH	AUDIT_ARCH_X86_64
#define KERNEL_ADDRESS	0xffff800000000000ul
#define MMAP_OFFSET(page)	((page) * 4096l)

/* i386 has these calls under a second number. */
#define SYS_getuid32	SYS_getuid
#define SYS_getgid32	SYS_getgid
#define SYS_getresuid32	SYS_getresuid
#define SYS_mmap2	SYS_mmap
#define SYS__newselect	SYS_select

/* The arguments' registers: in ucontext_t's gregs, in struct user_regs_struct. */
static const int context_argument[6] __attribute__((unused)) = { REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9 };
#define CONTEXT_RESULT	REG_RAX
#define CONTEXT_IP	REG_RIP
#define CONTEXT_SP	REG_RSP
#define CONTEXT_FLAGS	REG_EFL
#define user_nr		orig_rax
#define user_result	rax
#define user_argument1	rdi
#define user_ip		rip
#define user_sp		rsp

/* Null, of the LDT, of the GDT. */
static const unsigned short selectors_tried[] __attribute__((unused)) = { 0, 1, 3, 7, 0x0f, 0x2b, 0x23, 0x33 };
#define SEGMENTS_TRIED	2	/* ds, es; fs and gs have bases of their own */
/*
 * Only base 0. QEMU 7.2 adds %ds's base in 64-bit mode if an instruction has that prefix. The
 * kernel has such an instruction where it releases a lock, so any other base would crash a stock
 * kernel.
 */
#define LDT_BASE	0

static inline __attribute__((unused)) void take_path(unsigned long which)
{
	mark = which;
}

struct call {
	long nr;		/* after the call: its result */
	unsigned long arg[6];	/* rdi, rsi, rdx, r10, r8, r9 */
	unsigned long flags;
	unsigned long ds, es, fs, gs, ss;	/* ds and es only are loaded */
	void *entry;
	unsigned long others[6];	/* rbx, rbp, r12 to r15 */
	unsigned long rcx, r11;	/* after the call */
};

void enter(struct call *call);
void fast_stub(void);
void stock_stub(void);
extern const char fast_sysenter[], fast_return[], stock_syscall[], stock_return[];

/* The number for this case's path. A number that is out of range gets no mark (abi.h). */
static inline long marked(long nr)
{
	return (unsigned long)nr < SYSENTER_NR ? nr + (long)mark : nr;
}

static inline void *entry_for(long nr)
{
	return mark && (unsigned long)nr < SYSENTER_NR ? fast_stub : stock_stub;
}

#define UNMARKED_CALL(number, a, b, c, d, e, f) {				\
	.nr = (number), .arg = { (unsigned long)(a), (unsigned long)(b), (unsigned long)(c), (unsigned long)(d), \
				 (unsigned long)(e), (unsigned long)(f) },	\
	.flags = 0x202, .entry = stock_stub,					\
	.others = { 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6 },			\
}
#define CALL(number, a, b, c, d, e, f) {					\
	.nr = marked(number), .arg = { (unsigned long)(a), (unsigned long)(b), (unsigned long)(c), (unsigned long)(d), \
				       (unsigned long)(e), (unsigned long)(f) }, \
	.flags = 0x202, .entry = entry_for(number),				\
	.others = { 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6 },			\
}
#define STOCK_ENTRY	((void *)stock_stub)

/* Is this the address of an instruction that enters the kernel? A restarted call uses another one. */
static inline __attribute__((unused)) int is_entering(unsigned long ip)
{
	return ip == (unsigned long)fast_sysenter || ip == (unsigned long)fast_return - 2 || ip == (unsigned long)stock_syscall;
}

static inline __attribute__((unused)) int in_vdso(unsigned long address)
{
	unsigned long vdso = getauxval(AT_SYSINFO_EHDR);

	return address >= vdso && address < vdso + 8192;
}

/* The instruction that enters the kernel on this case's path. */
static inline __attribute__((unused)) unsigned long entering_address(void)
{
	return (unsigned long)(mark ? fast_sysenter : stock_syscall);
}

/* Where a call returns to. */
static inline __attribute__((unused)) unsigned long return_address(void)
{
	return (unsigned long)(mark ? fast_return : stock_return);
}

/* Name a place in such a way that the name does not depend on the layout or the path. */
static __attribute__((unused)) const char *place(unsigned long address)
{
	if (is_entering(address))
		return "entering";
	if (address == (unsigned long)fast_return || address == (unsigned long)stock_return)
		return "return";
	return address < KERNEL_ADDRESS ? address >> 47 ? "hole" : "user" : "kernel";
}

/*
 * A fast call does not preserve rdi, rsi, rdx and r8 to r10. It leaves zero in them, or a value
 * of the user's, from this call or an earlier one, but never one of the kernel's.
 */
static inline int of_the_kernel(unsigned long value)
{
	return value >= KERNEL_ADDRESS && value < -4096ul;
}

/* Registers that a fast call must preserve are unchanged. */
static inline __attribute__((unused)) int kept(const struct call *before, const struct call *after)
{
	int good = !memcmp(before->others, after->others, sizeof(before->others)) && (after->flags & FLAGS_KEPT) == 0x202;

	for (int i = 0; i < 6; i++)
		good &= alone ? after->arg[i] == before->arg[i] : !of_the_kernel(after->arg[i]);
	return good;
}

static __attribute__((unused)) void note_call(const char *what, const struct call *c)
{
	note("%s: rax %lx flags %lx rcx %s ds %lx es %lx fs %lx gs %lx ss %lx", what, c->nr, c->flags & FLAGS_KEPT,
	     place(c->rcx), selector(c->ds), selector(c->es), c->fs, c->gs, c->ss);
	for (int i = 0; i < 6; i++) {
		note(" %lx", c->others[i]);
		if (of_the_kernel(c->arg[i]))
			note(" argument %d %lx", i, c->arg[i]);
	}
	if (of_the_kernel(c->r11))
		note(" r11 %lx", c->r11);
	for (int i = 0; alone && i < 6; i++)
		note(" %lx", c->arg[i] + 4096 < 8192 || of_the_kernel(c->arg[i]) ? c->arg[i] : 4096);	/* or an address */
	if (alone)
		note(" r11 %lx", c->r11);
	note("; ");
}

/* At a tracer's stop where the call shows all of its registers. */
static __attribute__((unused)) void note_user(const char *what, const struct user_regs_struct *r)
{
	note("%s: orig %lld rax %lld rdi %llx rsi %llx rdx %llx r10 %llx r8 %llx r9 %llx rbx %llx rbp %llx r12 %llx r13 %llx r14 %llx "
	     "r15 %llx rcx %s r11 %llx at %s flags %llx ds %llx es %llx fs %llx gs %llx cs %llx ss %llx; ",
	     what, (long long)r->orig_rax, (long long)r->rax, r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9, r->rbx, r->rbp, r->r12,
	     r->r13, r->r14, r->r15, place(r->rcx), r->r11 & FLAGS_KEPT, place(r->rip), r->eflags & FLAGS_KEPT, r->ds, r->es,
	     r->fs, r->gs, r->cs, r->ss);
}

/* The same in the middle of a program, or of a call that sleeps. */
static __attribute__((unused)) void note_user_briefly(const struct user_regs_struct *r)
{
	note("rax %llx rbx %llx rbp %llx r12 %llx r13 %llx r14 %llx r15 %llx cs %llx ss %llx orig %lld ",
	     is_entering(r->rip) ? r->rax & (SYSENTER_NR - 1) : r->rax, r->rbx, r->rbp, r->r12, r->r13, r->r14, r->r15, r->cs,
	     r->ss, (long long)r->orig_rax);
	if (of_the_kernel(r->r8) || of_the_kernel(r->r9) || of_the_kernel(r->r10) || of_the_kernel(r->rdi))
		note("r8 %llx r9 %llx r10 %llx rdi %llx ", r->r8, r->r9, r->r10, r->rdi);
}

static __attribute__((unused)) void note_context(const greg_t *g)
{
	note("rbx %llx rbp %llx r12 %llx r13 %llx r14 %llx r15 %llx flags %llx at %s ", g[REG_RBX], g[REG_RBP], g[REG_R12],
	     g[REG_R13], g[REG_R14], g[REG_R15], g[REG_EFL] & FLAGS_KEPT, place(g[REG_RIP]));
}

/*
 * A thread on a stack of its own, made by clone through the entry. It makes the
 * call thread_calls[0], stores the result and ends by thread_calls[1].
 */
static volatile unsigned long thread_result __asm__("thread_result") __attribute__((used));
static volatile unsigned long thread_calls[2] __asm__("thread_calls") __attribute__((used));
static void *thread_stub __asm__("thread_stub") __attribute__((used));

static __attribute__((unused)) long raw_thread(long clone_nr, unsigned long flags, char *top)
{
	unsigned long *stack = (unsigned long *)top - 16;
	long tid;

	thread_stub = mark ? fast_stub : stock_stub;
	asm volatile("	leaq	1f(%%rip), %%rdx\n"
		     "	movq	%%rdx, (%%rsi)\n"	/* where the child's stub returns to */
		     "	xorl	%%edx, %%edx\n"
		     "	xorl	%%r10d, %%r10d\n"
		     "	xorl	%%r8d, %%r8d\n"
		     "	subq	$128, %%rsp\n"		/* the red zone */
		     "	call	*thread_stub(%%rip)\n"
		     "	addq	$128, %%rsp\n"
		     "	jmp	2f\n"
		     "1:	movq	thread_calls(%%rip), %%rax\n"
		     "	call	*thread_stub(%%rip)\n"
		     "	movq	%%rax, thread_result(%%rip)\n"
		     "	movq	thread_calls + 8(%%rip), %%rax\n"
		     "	xorl	%%edi, %%edi\n"
		     "	call	*thread_stub(%%rip)\n"
		     "	ud2\n"
		     "2:\n"
		     : "=a"(tid), "+D"(flags), "+S"(stack) : "0"(clone_nr)
		     : "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
	return tid;
}

asm(".pushsection .text\n"
    "	.globl fast_stub, fast_sysenter, fast_return, stock_stub, stock_syscall, stock_return, enter\n"
    "fast_stub:\n"
    "	movq	%rsp, %r11\n"
    "	leaq	fast_return(%rip), %rcx\n"
    "fast_sysenter:\n"
    "	sysenter\n"
    "	syscall\n"
    "fast_return:\n"
    "	ret\n"
    "stock_stub:\n"			/* as many instructions as fast_stub, for single-stepping */
    "	movq	%rsp, %r11\n"
    "	leaq	stock_return(%rip), %rcx\n"
    "stock_syscall:\n"
    "	syscall\n"
    "stock_return:\n"
    "	ret\n"
    "enter:\n"
    "	pushq	%rbp\n"
    "	pushq	%rbx\n"
    "	pushq	%r12\n"
    "	pushq	%r13\n"
    "	pushq	%r14\n"
    "	pushq	%r15\n"
    "	pushq	%rdi\n"
    "	pushq	104(%rdi)\n"		/* entry */
    "	pushq	56(%rdi)\n"		/* flags */
    "	movl	64(%rdi), %eax\n"
    "	movl	%eax, %ds\n"
    "	movl	72(%rdi), %eax\n"
    "	movl	%eax, %es\n"
    "	movq	112(%rdi), %rbx\n"
    "	movq	120(%rdi), %rbp\n"
    "	movq	128(%rdi), %r12\n"
    "	movq	136(%rdi), %r13\n"
    "	movq	144(%rdi), %r14\n"
    "	movq	152(%rdi), %r15\n"
    "	movq	16(%rdi), %rsi\n"
    "	movq	24(%rdi), %rdx\n"
    "	movq	32(%rdi), %r10\n"
    "	movq	40(%rdi), %r8\n"
    "	movq	48(%rdi), %r9\n"
    "	movq	(%rdi), %rax\n"
    "	movq	8(%rdi), %rdi\n"
    "	popfq\n"
    "	call	*(%rsp)\n"
    "	pushfq\n"
    "	pushq	$0x202\n"
    "	popfq\n"
    "	pushq	%rdi\n"
    "	movq	24(%rsp), %rdi\n"
    "	movq	%rax, (%rdi)\n"
    "	movq	%rsi, 16(%rdi)\n"
    "	movq	%rdx, 24(%rdi)\n"
    "	movq	%r10, 32(%rdi)\n"
    "	movq	%r8, 40(%rdi)\n"
    "	movq	%r9, 48(%rdi)\n"
    "	movq	%rbx, 112(%rdi)\n"
    "	movq	%rbp, 120(%rdi)\n"
    "	movq	%r12, 128(%rdi)\n"
    "	movq	%r13, 136(%rdi)\n"
    "	movq	%r14, 144(%rdi)\n"
    "	movq	%r15, 152(%rdi)\n"
    "	movq	%rcx, 160(%rdi)\n"
    "	movq	%r11, 168(%rdi)\n"
    "	popq	8(%rdi)\n"
    "	popq	56(%rdi)\n"
    "	movl	%ds, %eax\n"
    "	movq	%rax, 64(%rdi)\n"
    "	movl	%es, %eax\n"
    "	movq	%rax, 72(%rdi)\n"
    "	movl	%fs, %eax\n"
    "	movq	%rax, 80(%rdi)\n"
    "	movl	%gs, %eax\n"
    "	movq	%rax, 88(%rdi)\n"
    "	movl	%ss, %eax\n"
    "	movq	%rax, 96(%rdi)\n"
    "	xorl	%eax, %eax\n"
    "	movl	%eax, %ds\n"
    "	movl	%eax, %es\n"
    "	addq	$16, %rsp\n"
    "	popq	%r15\n"
    "	popq	%r14\n"
    "	popq	%r13\n"
    "	popq	%r12\n"
    "	popq	%rbx\n"
    "	popq	%rbp\n"
    "	ret\n"
    ".popsection");

#endif
