/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * i386: a system call with chosen values in every register, and the names of its registers.
 * hazards_amd64.h is the same for amd64.
 *
 * enter() loads registers, flags and segments from a struct call, calls the entry that it names
 * (raw_stub, the mapped page, or the vDSO), and stores the values that come back.
 * enter_raw() uses no stub: ebp (with SYSCALL esp) is as given, valid or not.
 *
 * They enter by SYSENTER. On the fast path they enter by SYSCALL if the stub page does, with its
 * registers: the 2nd argument in ebp, the stack in esp.
 */
#ifndef HAZARDS_I386_H
#define HAZARDS_I386_H

#define MARK		((unsigned long)SYSENTER_MARK_I386)
#define FLAG_TF		0x100u
#define FLAG_DF		0x400u
#define FLAG_NT		0x4000u
#define FLAG_AC		0x40000u
#define FLAG_ID		0x200000u
#define FLAGS_KEPT	(~0u)
#define CALLER_ARCH	AUDIT_ARCH_I386
#define KERNEL_ADDRESS	0xc0000000u
#define MMAP_OFFSET(page)	(page)		/* mmap2 counts pages */

/* The arguments' registers: in ucontext_t's gregs, in struct user_regs_struct. */
static const int context_argument[6] __attribute__((unused)) = { REG_EBX, REG_ECX, REG_EDX, REG_ESI, REG_EDI, REG_EBP };
#define CONTEXT_RESULT	REG_EAX
#define CONTEXT_IP	REG_EIP
#define CONTEXT_SP	REG_ESP
#define CONTEXT_FLAGS	REG_EFL
#define user_nr		orig_eax
#define user_result	eax
#define user_argument1	ebx
#define user_ip		eip
#define user_sp		esp

/* Null, of the LDT, of the GDT. */
static const unsigned short selectors_tried[] __attribute__((unused)) = { 0, 1, 3, 7, 0x7b, 0x73, 0x0f };
#define SEGMENTS_TRIED	4	/* ds, es, fs, gs */
#define LDT_BASE	0x1000

struct call {
	long nr;		/* after the call: its result */
	unsigned long arg[6];	/* ebx, ecx, edx, esi, edi, ebp */
	unsigned long flags;
	unsigned long ds, es, fs, gs, ss;
	void *entry;
};

void enter(struct call *call);
void enter_raw(struct call *call);
void raw_stub(void);
extern const char raw_stub_sysenter[], raw_stub_syscall[];
extern const char raw_by_sysenter[], raw_by_syscall[], stub_by_sysenter[], stub_by_syscall[];
static const char *raw_way __asm__("raw_way") __attribute__((used)) = raw_by_sysenter;
static const char *stub_way __asm__("stub_way") __attribute__((used)) = stub_by_sysenter;

static inline __attribute__((unused)) int by_syscall(void)
{
	return stub_way == stub_by_syscall;
}

/* which: MARK or 0 */
static inline __attribute__((unused)) void take_path(unsigned long which)
{
	mark = which;
	if (which && memmem(stub_page, SYSENTER_STUB_MARKED, "\x0f\x05", 2)) {
		raw_way = raw_by_syscall;
		stub_way = stub_by_syscall;
	}
}

static inline unsigned long selector_ds(void)
{
	unsigned long selector;

	asm("mov %%ds, %0" : "=r"(selector));
	return selector;
}

static inline unsigned long selector_gs(void)
{
	unsigned long selector;

	asm("mov %%gs, %0" : "=r"(selector));
	return selector;
}

/* The number for this case's path. The paths differ in the mark only. */
static inline long marked(long nr)
{
	return nr | mark;
}

/* nr is used without a change */
#define UNMARKED_CALL(number, a, b, c, d, e, f) {				\
	.nr = (number), .arg = { (unsigned long)(a), (unsigned long)(b), (unsigned long)(c), (unsigned long)(d), \
				 (unsigned long)(e), (unsigned long)(f) },	\
	.flags = 0x202, .ds = selector_ds(), .es = selector_ds(), .fs = 0, .gs = selector_gs(), \
	.entry = raw_stub,							\
}
#define CALL(number, ...)	UNMARKED_CALL(marked(number), __VA_ARGS__)
/* for a number that must not get a mark */
#define STOCK_ENTRY	((void *)getauxval(AT_SYSINFO))

/* Whether an address is that of the instruction that enters the kernel. */
static inline __attribute__((unused)) int is_entering(unsigned long ip)
{
	return ip == (unsigned long)raw_stub_sysenter || ip == (unsigned long)raw_stub_syscall;
}

static inline __attribute__((unused)) int in_vdso(unsigned long address)
{
	unsigned long vdso = getauxval(AT_SYSINFO_EHDR);

	return address >= vdso && address < vdso + 8192;
}

/* Name a place in such a way that the name does not depend on the layout. */
static __attribute__((unused)) const char *place(unsigned long address)
{
	static char name[32];

	if (is_entering(address))
		return "entering";
	if (!in_vdso(address))
		return address < KERNEL_ADDRESS ? "user" : "kernel";
	snprintf(name, sizeof(name), "vdso+%lx", address - getauxval(AT_SYSINFO_EHDR));
	return name;
}

/* The instruction that enters the kernel on this case's path. */
static inline __attribute__((unused)) unsigned long entering_address(void)
{
	return (unsigned long)(by_syscall() ? raw_stub_syscall : raw_stub_sysenter);
}

/* Where a call returns to. */
static inline __attribute__((unused)) unsigned long return_address(void)
{
	static const unsigned char pad[] = { 0xcd, 0x80, 0x5d, 0x5a, 0x59, 0xc3 };

	return (unsigned long)memmem((char *)getauxval(AT_SYSINFO_EHDR), 4096, pad, sizeof(pad)) + 2;
}

/* Is every register of the caller unchanged after the call? */
static inline __attribute__((unused)) int kept(const struct call *before, const struct call *after)
{
	return !memcmp(before->arg, after->arg, sizeof(before->arg)) && (after->flags & FLAGS_KEPT) == 0x202;
}

static __attribute__((unused)) void note_call(const char *what, const struct call *c)
{
	note("%s: eax %lx ebx %lx ecx %lx edx %lx esi %lx edi %lx ebp %lx flags %lx ds %lx es %lx fs %lx gs %lx ss %lx; ",
	     what, c->nr, c->arg[0], c->arg[1], c->arg[2], c->arg[3], c->arg[4], c->arg[5], c->flags & FLAGS_KEPT,
	     selector(c->ds), selector(c->es), selector(c->fs), selector(c->gs), c->ss);
}

/* At a tracer's stop where the call shows all of its registers. */
static __attribute__((unused)) void note_user(const char *what, const struct user_regs_struct *r)
{
	note("%s: orig %ld eax %ld ebx %lx ecx %lx edx %lx esi %lx edi %lx ebp %lx at %s flags %lx ds %lx es %lx fs %lx cs %lx ss %lx; ",
	     what, r->orig_eax, r->eax, r->ebx, r->ecx, r->edx, r->esi, r->edi, r->ebp, place(r->eip),
	     r->eflags & FLAGS_KEPT, r->xds, r->xes, r->xfs, r->xcs, r->xss);
}

/* The same in the middle of a program, or of a call that sleeps. */
static __attribute__((unused)) void note_user_briefly(const struct user_regs_struct *r)
{
	unsigned long values[] = { r->ecx, r->edx, r->ebp };
	long eax = r->eax & (long)~MARK;

		/* the caller's, or set for SYSEXIT, depending on how the call ended; never the kernel's */
	note("eax %lx fs %lx orig %ld ", eax >= 0 && eax < SYSENTER_NR ? eax : r->eax, r->xfs & 0xffff, r->orig_eax);
	for (int i = 0; i < 3; i++)
		if (values[i] >= KERNEL_ADDRESS && values[i] < -4096ul)
			note("register %d %lx ", i, values[i]);
}

static __attribute__((unused)) void note_context(const greg_t *g)
{
	note("esi %x edi %x ebp %d flags %x ds %x fs %x ", g[REG_ESI], g[REG_EDI], g[REG_EBP] == 6, g[REG_EFL] & FLAGS_KEPT,
	     g[REG_DS], g[REG_FS]);
}

/*
 * A thread on a stack of its own, made by clone through the entry. It makes the
 * call thread_calls[0], stores the result and ends by thread_calls[1].
 */
static volatile unsigned long thread_result __asm__("thread_result") __attribute__((used));
static volatile unsigned long thread_calls[2] __asm__("thread_calls") __attribute__((used));

static __attribute__((unused)) long raw_thread(long clone_nr, unsigned long flags, char *top)
{
	unsigned long *stack = (unsigned long *)top - 16;
	long tid;

	/* what the landing pad pops, and where it returns to, for the child as well */
	asm volatile("	pushl	%%ebp\n"
		     "	leal	1f, %%edx\n"
		     "	movl	%%edx, 12(%%ecx)\n"	/* child: ebp, edx, ecx, return address */
		     "	xorl	%%edx, %%edx\n"
		     "	xorl	%%esi, %%esi\n"
		     "	xorl	%%edi, %%edi\n"
		     "	call	raw_stub\n"
		     "	jmp	2f\n"
		     "1:	movl	thread_calls, %%eax\n"
		     "	call	raw_stub\n"
		     "	movl	%%eax, thread_result\n"
		     "	movl	thread_calls + 4, %%eax\n"
		     "	xorl	%%ebx, %%ebx\n"
		     "	call	raw_stub\n"
		     "	ud2\n"
		     "2:	popl	%%ebp\n"
		     : "=a"(tid) : "0"(clone_nr), "b"(flags), "c"(stack) : "edx", "esi", "edi", "memory");
	return tid;
}

asm(".pushsection .text\n"
    "	.globl raw_stub, raw_stub_sysenter, raw_stub_syscall, enter, enter_raw\n"
    "	.globl raw_by_sysenter, raw_by_syscall, stub_by_sysenter, stub_by_syscall\n"
    "raw_stub:\n"
    "	pushl	%ecx\n"
    "	pushl	%edx\n"
    "	pushl	%ebp\n"
    "	jmp	*%cs:stub_way\n"		/* ds may be null */
    "stub_by_sysenter:\n"
    "	movl	%esp, %ebp\n"
    "raw_stub_sysenter:\n"
    "raw_by_sysenter:\n"
    "	sysenter\n"
    "	ud2\n"
    "raw_by_syscall:\n"
    "	movl	%ebp, %esp\n"
    "stub_by_syscall:\n"
    "	movl	%ecx, %ebp\n"
    "raw_stub_syscall:\n"
    "	syscall\n"
    "	ud2\n"
    "enter:\n"
    "	pushl	%ebp\n"
    "	pushl	%ebx\n"
    "	pushl	%esi\n"
    "	pushl	%edi\n"
    "	pushl	%ds\n"
    "	pushl	%es\n"
    "	pushl	%fs\n"
    "	pushl	%gs\n"
    "	movl	36(%esp), %eax\n"
    "	pushl	52(%eax)\n"			/* entry */
    "	pushl	28(%eax)\n"			/* flags */
    "	movl	4(%eax), %ebx\n"
    "	movl	8(%eax), %ecx\n"
    "	movl	12(%eax), %edx\n"
    "	movl	16(%eax), %esi\n"
    "	movl	20(%eax), %edi\n"
    "	movl	24(%eax), %ebp\n"
    "	pushl	(%eax)\n"
    "	mov	44(%eax), %gs\n"
    "	mov	40(%eax), %fs\n"
    "	mov	36(%eax), %es\n"
    "	mov	32(%eax), %ds\n"		/* the stack only from here */
    "	popl	%eax\n"
    "	popfl\n"
    "	call	*(%esp)\n"
    "	pushfl\n"
    "	pushl	$0x202\n"
    "	popfl\n"
    "	pushl	%eax\n"
    "	movl	48(%esp), %eax\n"
    "	movl	$0, %ss:32(%eax)\n"
    "	movl	$0, %ss:36(%eax)\n"
    "	movl	$0, %ss:40(%eax)\n"
    "	movl	$0, %ss:44(%eax)\n"
    "	movl	$0, %ss:48(%eax)\n"
    "	mov	%ds, %ss:32(%eax)\n"
    "	mov	%es, %ss:36(%eax)\n"
    "	mov	%fs, %ss:40(%eax)\n"
    "	mov	%gs, %ss:44(%eax)\n"
    "	mov	%ss, %ss:48(%eax)\n"
    "	mov	24(%esp), %ds\n"
    "	mov	20(%esp), %es\n"
    "	mov	16(%esp), %fs\n"
    "	mov	12(%esp), %gs\n"
    "	movl	%ebx, 4(%eax)\n"
    "	movl	%ecx, 8(%eax)\n"
    "	movl	%edx, 12(%eax)\n"
    "	movl	%esi, 16(%eax)\n"
    "	movl	%edi, 20(%eax)\n"
    "	movl	%ebp, 24(%eax)\n"
    "	popl	(%eax)\n"
    "	popl	28(%eax)\n"
    "	addl	$4, %esp\n"
    "	popl	%gs\n"
    "	popl	%fs\n"
    "	popl	%es\n"
    "	popl	%ds\n"
    "	popl	%edi\n"
    "	popl	%esi\n"
    "	popl	%ebx\n"
    "	popl	%ebp\n"
    "	ret\n"
    "enter_raw:\n"
    "	movl	4(%esp), %eax\n"
    "	movl	4(%eax), %ebx\n"
    "	movl	8(%eax), %ecx\n"
    "	movl	12(%eax), %edx\n"
    "	movl	16(%eax), %esi\n"
    "	movl	20(%eax), %edi\n"
    "	movl	24(%eax), %ebp\n"
    "	movl	(%eax), %eax\n"
    "	jmp	*%cs:raw_way\n"
    ".popsection");

#endif
