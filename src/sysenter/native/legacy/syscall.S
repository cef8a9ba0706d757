/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AMD's SYSCALL on Linux 2.4. entry.S includes this file, shares its slow ways with it,
 * and is copied together with it.
 *
 * Most callers are user code that follows the stub's convention:
 *
 *	pushl	%ebp			# 6th argument, and %ebp itself
 *	pushl	%ecx			# 2nd argument: SYSCALL destroys ecx
 *	movl	%esp,%ebp
 *	syscall
 *	int	$0x80			# a restarted call comes back here
 *	popl	%ecx
 *	popl	%ebp
 *
 * But any program can execute SYSCALL, as with SYSENTER.
 *
 * What the processor does (AMD APM vol. 3, SYSCALL in legacy mode): ecx = return
 * address, EIP and CS from STAR, SS flat, CPL 0; VM, IF and RF cleared. ESP, TF, NT,
 * AC, DF, IOPL, DS, ES, FS and GS stay as the caller had them.
 *
 *	eax	number			ebp	user stack:
 *	ebx	1st argument			  (%ebp)  2nd argument
 *	ecx	return address less 2		 4(%ebp)  6th argument
 *	edx	3rd
 *	esi	4th		returns: eax result; ecx and edx lost;
 *	edi	5th		esp = ebp as given; the rest as it was
 *
 * HAZARD: before the first instruction of a stub and before SYSRET, ESP is the
 * caller's at CPL 0. An NMI, #DB or #MC there, through an interrupt gate, would push to
 * the address in ESP. So taskgate.c has task gates for these three.
 */
#define SYSRET		.byte 0x0f,0x07
#define INT80_BYTES	2
#define TSS_BUSY	2
#define LDT_TYPE	0x8200
#define PATCHED		0x7fffffff

/* Below the end of user space there must be room for both words. */
#define CHECK_SYSCALL_STACK \
	cmpl	$(USER_LIMIT - 8),%ebp; \
	ja	sysenter_bad_stack

/* One stub for each CPU, because no register and no segment leads to this CPU's
   data: esp0 in its TSS, and its count of calls. taskgate.c writes the patch sites. */
	.globl	sysenter_syscall_stubs
	.align	SYSCALL_STUB_SIZE
sysenter_syscall_stubs:
	.rept	CPUS_MAX
	.align	SYSCALL_STUB_SIZE
	movl	%ss:PATCHED,%esp
	incl	%ss:PATCHED			/* SYSCALL_STUB_STACK: no window */
	jmp	sysenter_syscall_entry
	.endr

sysenter_syscall_entry:
	testl	$(THREAD_BYTES - 1),%esp	# as at the three other ways
	jne	sysenter_vm86
	PUSH_HARDWARE_FRAME
	CHECK_SYSCALL_STACK
	SANE_FLAGS
	addl	$INT80_BYTES,%ecx
	pushl	%ecx				# pt_regs->eip
	pushl	%eax				# pt_regs->orig_eax
	subl	$UNFILLED,%esp			# pt_regs->xes, xds, eax
60:	pushl	4(%ebp)				# pt_regs->ebp, 6th argument
	pushl	%edi				# pt_regs->edi
	pushl	%esi				# pt_regs->esi
	pushl	%edx				# pt_regs->edx
61:	pushl	(%ebp)				# pt_regs->ecx, 2nd argument
	pushl	%ebx				# pt_regs->ebx
	JUMP_IF_NOT_FAST sysenter_decline
	call	*kernel_sys_call_table(,%eax,4)
	.globl	sysenter_called_syscall
sysenter_called_syscall:
	cli					# the tests and SYSRET are one
	CHECK_SOFTIRQ
	movl	%ds,%ecx
	xorl	$USER_DS_SEL,%ecx
	orl	CURRENT(TASK_NEED_RESCHED),%ecx
	orl	CURRENT(TASK_SIGPENDING),%ecx
	jne	65f

	/* The window's end: the task gates send an interrupted SYSRET back to here, where
	   the frame is still intact. */
	.globl	sysenter_syscall_leave, sysenter_sysret
sysenter_syscall_leave:
	movl	PT_EIP(%esp),%ecx
	movl	%ecx,%edx			# nothing the kernel had in it
	pushl	PT_EFLAGS(%esp)			# as the caller had it, IF off
	popfl
	movl	%ebp,%esp
sysenter_sysret:
	SYSRET					# IF on

65:	EXIT_WORK
	jne	sysenter_exit_work
	LOAD_SEGMENTS
	jmp	sysenter_syscall_leave
66:	addl	$16,%esp			# edx, esi, edi, ebp
	jmp	sysenter_bad_argument
	FIXUP(60b, sysenter_bad_argument)
	FIXUP(61b, 66b)

/* The same call with TF set: the task of #DB comes here. %esp = esp0. */
	.globl	sysenter_syscall_trapped
sysenter_syscall_trapped:
	testl	$(THREAD_BYTES - 1),%esp
	jne	sysenter_vm86
	PUSH_HARDWARE_FRAME
	orl	$(EFLAGS_TF|EFLAGS_IF),4(%esp)
	COUNT_SLOW(SLOW_TRAPPED)
	CHECK_SYSCALL_STACK
	SANE_FLAGS
	addl	$INT80_BYTES,%ecx
	pushl	%ecx				# pt_regs->eip
67:	movl	(%ebp),%ecx
68:	movl	4(%ebp),%ebp
	jmp	sysenter_to_system_call
	FIXUP(67b, sysenter_no_argument)
	FIXUP(68b, sysenter_no_argument)

/* ------------------------------------------------------------------------
 * The task behind the gates of #DB, NMI and #MC. On entry, by the processor's
 * task switch, all registers come from this task's TSS: ebx = struct gate_task, its
 * own stack, swapper_pg_dir, flat segments, no LDT. The interrupted registers are in
 * the TSS that the back link names. NT and CR0.TS are set. The task ends at the
 * kernel's handler, with all registers as an interrupt gate would have left them.
 */
	.globl	sysenter_gate
sysenter_gate:
	pushl	%ebx
	movl	$sysenter_gate_body,%eax
	call	*%eax
	addl	$4,%esp				# the slot is for C to use; ebx it keeps
	testl	%eax,%eax
	je	72f
	movl	%eax,%esp			# struct gate_resume
	pushl	$EFLAGS_FIXED
	popfl					# NT: the next iret is a plain one
	/* HAZARD: an NMI or #MC before the LTR comes within this task, and waits in
	   `pending`. After the LTR it is handled at once, on this stack. */
	popl	%eax
	andb	$~TSS_BUSY,(%eax)		# LTR wants it available
	popl	%eax
	ltr	%ax
	popl	%eax
	andb	$~TSS_BUSY,(%eax)
	movl	$sysenter_gate,HW_EIP(%ebx)	# how the task begins again: one
	SELF_REFERENCE
	movl	$EFLAGS_FIXED,HW_EFLAGS(%ebx)	# that came in it has saved others
	movl	%ebx,HW_EBX(%ebx)
	leal	GATE_BYTES(%ebx),%eax
	movl	%eax,HW_ESP(%ebx)
	movl	GATE_CPU(%ebx),%edx
	xorl	%eax,%eax
	xchgl	%eax,CPU_PENDING(%edx)
	movl	%eax,(RESUME_PENDING - 12)(%esp)
	popl	%eax
	movl	%eax,%cr3			# from here on no vmalloc space
	popl	%eax
	testl	%eax,%eax
	je	70f
	clts
70:	popl	%eax
	movl	%eax,%db7
	/* An LLDT before each pop, because the fault handler for a selector that has gone
	   loads another LDT. */
sysenter_gate_pops:
	lldt	16(%esp)
	popl	%gs
	lldt	12(%esp)
	popl	%fs
	lldt	8(%esp)
	popl	%es
	lldt	4(%esp)
	popl	%ds
sysenter_gate_pops_end:
	lldt	4(%esp)
	addl	$8,%esp
	popfl					# IF on if a trap gate left it so
	popal
	cmpl	$0,(%esp)
	jne	71f
	addl	$4,%esp
	ret	$8				# to the handler of the kernel
71:	ret					# to that of what came in the task
72:	iret					# back to the task we came in
	jmp	sysenter_gate

/* A #DB that the kernel must not see: resume what it interrupted. */
	.globl	sysenter_gate_swallow
sysenter_gate_swallow:
	iret

/* Vectors 13 and 11, for the pops above. __ex_table cannot serve them: the kernel takes a
   lock to search it, and an NMI may have come while that lock is held. */
	.macro	SEGMENT_FAULT name
	.align	16
	.globl	sysenter_\name
sysenter_\name:
	cmpl	$sysenter_gate_pops,4(%esp)
	SELF_REFERENCE
	jb	73f
	cmpl	$sysenter_gate_pops_end,4(%esp)
	SELF_REFERENCE
	jae	73f
	cmpw	$KERNEL_CS_SEL,8(%esp)
	je	sysenter_segment_gone
73:	jmp	*%ss:sysenter_kernel_\name
	SELF_REFERENCE
	.endm
	SEGMENT_FAULT general_protection
	SEGMENT_FAULT not_present

/* The LDT has changed since the selector was loaded. The register must keep its selector:
   it would have stayed loaded until somebody loaded it again. So load it with an LDT of
   ours that has a flat segment there. No iret, because that would unblock NMIs. */
sysenter_segment_gone:
	movl	4(%esp),%edx			# the pop, to do again
	addl	$16,%esp			# error code, eip, cs, eflags
	movl	(%esp),%eax
	testb	$4,%al
	je	74f
	andl	$0xfff8,%eax
	movl	$sysenter_flat_data,%ecx
	SELF_REFERENCE
	subl	%eax,%ecx			# base of an LDT of 64 KB
	movl	GATE_CPU(%ebx),%eax
	movl	CPU_SPARE(%eax),%edi
	movl	%ecx,%esi
	shll	$16,%esi
	orl	$0xffff,%esi
	movl	%esi,%ss:(%edi)
	movl	%ecx,%esi
	andl	$0xff000000,%esi
	shrl	$16,%ecx
	movzbl	%cl,%ecx
	leal	LDT_TYPE(%esi,%ecx),%ecx
	movl	%ecx,%ss:4(%edi)
	movl	CPU_SPARE_SELECTOR(%eax),%eax
	lldt	%ax
	jmp	*%edx
74:	movl	$0,(%esp)
	jmp	*%edx

/* Vector 7. HAZARD: a task switch sets CR0.TS. While the kernel uses the FPU for itself
   (kernel_fpu_begin: TS clear, without PF_USEDFPU), nothing tells what TS was. So TS stays
   set there, and the first FPU instruction clears it here. That is safe: the kernel never
   uses the FPU for itself with TS set. */
	.align	16
	.globl	sysenter_no_device
sysenter_no_device:
	testl	$EFLAGS_VM,8(%esp)
	jne	75f
	testb	$3,4(%esp)
	jne	75f
	clts
	iret
75:	jmp	*%ss:sysenter_kernel_no_device
	SELF_REFERENCE

	.align	8
sysenter_flat_data:			.long 0x0000ffff,0x00cff200
	.globl	sysenter_kernel_general_protection, sysenter_kernel_not_present
	.globl	sysenter_kernel_no_device
sysenter_kernel_general_protection:	.long 0
sysenter_kernel_not_present:		.long 0
sysenter_kernel_no_device:		.long 0
