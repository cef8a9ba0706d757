/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A system call with every register as the caller wants it, i386.
 *
 * enter(): loads registers, flags and segments from a struct call, calls the
 * entry it names (raw_stub, the mapped page, the vDSO), stores what came back.
 * enter_raw(): no stub: SYSENTER with ebp as given, however bad.
 */
#ifndef HAZARDS_I386_H
#define HAZARDS_I386_H

#define MARK		((unsigned long)SYSENTER_MARK_I386)
#define FLAG_TF		0x100u
#define FLAG_DF		0x400u
#define FLAG_NT		0x4000u
#define FLAG_AC		0x40000u
#define FLAG_ID		0x200000u
/* CF PF AF ZF SF OF: undefined after a fast call */
#define FLAGS_KEPT	(~0x8d5u)

struct call {
	uint32_t eax, ebx, ecx, edx, esi, edi, ebp, flags;
	uint32_t ds, es, fs, gs, ss;
	void *entry;
};

void enter(struct call *call);
void enter_raw(struct call *call);
void raw_stub(void);
extern const char raw_stub_sysenter[];

static inline uint32_t selector_ds(void)
{
	uint32_t selector;

	asm("mov %%ds, %0" : "=r"(selector));
	return selector;
}

static inline uint32_t selector_gs(void)
{
	uint32_t selector;

	asm("mov %%gs, %0" : "=r"(selector));
	return selector;
}

#define CALL(nr, a, b, c, d, e, f) {						\
	.eax = (nr), .ebx = (a), .ecx = (b), .edx = (c), .esi = (d), .edi = (e), .ebp = (f), \
	.flags = 0x202, .ds = selector_ds(), .es = selector_ds(), .fs = 0, .gs = selector_gs(), \
	.entry = raw_stub,							\
}
#define RESULT(call)	((long)(call).eax)

asm(".pushsection .text\n"
    "	.globl raw_stub, raw_stub_sysenter, enter, enter_raw\n"
    "raw_stub:\n"
    "	pushl	%ecx\n"
    "	pushl	%edx\n"
    "	pushl	%ebp\n"
    "	movl	%esp, %ebp\n"
    "raw_stub_sysenter:\n"
    "	sysenter\n"
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
    "	sysenter\n"
    "	ud2\n"
    ".popsection");

#endif
