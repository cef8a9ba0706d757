/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SYSENTER entry for Linux 2.2 and 2.4.
 *
 * Most callers are user code that follows the stub's convention:
 *
 *	pushl	%ebp			# 6th argument, and %ebp itself
 *	movl	%esp,%ebp
 *	pushl	$1f			# return address
 *	sysenter
 *	int	$0x80			# a restarted call comes back to 1b - 2
 *  1:	popl	%ebp
 *
 * But any program can execute SYSENTER, with any registers, flags, segments and
 * stack, and from vm86 mode too.
 *
 * What the processor does (SDM vol. 2, SYSENTER): it loads CS, SS, ESP and EIP from
 * the MSRs, and clears VM, IF and RF. It saves nothing. TF, NT, AC, DF, IOPL, DS,
 * ES, FS and GS stay as the caller had them.
 *
 *	eax	number			ebp	user stack:
 *	ebx	1st argument			 -4(%ebp)  return address
 *	ecx	2nd			 	   (%ebp)  6th argument
 *	edx	3rd
 *	esi	4th		returns: eax result; ecx and edx lost;
 *	edi	5th		esp = ebp as given; the rest as it was
 *
 * The data segments. Nearly all programs have __USER_DS in ds and es. The kernel's own
 * __KERNEL_DS would be no better: both are flat, writable data. So the entry compares
 * ds and es and does not load them, and the body runs with the caller's. A caller with
 * other selectors is sent to the kernel's int 0x80 entry. Until that is decided,
 * memory is accessed through %ss. 2.2 and 2.4 keep the user's address limit in
 * task_struct (set_fs()), never in a segment. Interrupts and faults restore the
 * segments that they found. A switch of tasks does not, so a task that slept may
 * come back with __KERNEL_DS in both. So the exit compares them again.
 *
 * The text between sysenter_text and sysenter_text_end is copied to a page of the
 * direct mapping before use. Module text is in vmalloc space, and 2.4 fills in the
 * page directory entries of vmalloc space by page fault, but the first instructions
 * here have no stack for a page fault. Because it is copied, the text
 *  - refers to anything outside by absolute addresses only (R_386_32), and
 *  - lists its references to itself by SELF_REFERENCE, for relocation.
 *
 * External symbols. From System.map: kernel_system_call, kernel_ret_from_sys_call,
 * kernel_sys_call_table, and on 2.2 kernel_bh_mask, kernel_bh_active, kernel_task.
 * From the module's C: sysenter_slow_call, sysenter_segv, sysenter_counts.
 */
#define SYSENTER_ASSEMBLY
#include "legacy.h"
#include "offsets.h"

#define SYSENTER	.byte 0x0f,0x34		/* old assemblers do not know these */
#define SYSEXIT		.byte 0x0f,0x35
#define STR_EAX		.byte 0x0f,0x00,0xc8
#define STR_SP		.byte 0x66,0x0f,0x00,0xcc

#define EFLAGS_FIXED	0x00000002
#define EFLAGS_TF	0x00000100
#define EFLAGS_IF	0x00000200
#define EFLAGS_VM	0x00020000

/* A member of current, when a whole pt_regs is pushed. A call from user mode always
   starts at the very bottom of the task's stack, so current is
   %esp - (THREAD_BYTES - PT_SIZE). */
#define CURRENT(member)	(member - THREAD_BYTES + PT_SIZE)(%esp)

/* The room for xes, xds and eax of pt_regs. Only the slow ways read these fields, so only
   they write them. Until then the fields hold what the last entry from user mode left, or
   words of an interrupt's frame in this text. User mode knows all of that anyway. */
#define UNFILLED	12

/* The last four bytes of the preceding instruction are an address in this text. */
#define SELF_REFERENCE	9: .section .data; .long 9b-4; .text

#define FIXUP(insn, target) \
	.section __ex_table,"a"; .align 4; .long insn,target; .text

/* The fetch from the user's stack may sleep on a page, so IF is set before it. The other
   flags are cleared: NT would make a later iret of this CPU a task switch, and DF, AC and
   IOPL would leak into the next task, because switch_to saves no flags. */
#define SANE_FLAGS \
	pushl	$(EFLAGS_IF|EFLAGS_FIXED); \
	popfl

/* The distance from the block of cells to the GDT. It is written when the way is chosen,
   into two instructions: in each it is the four bytes before the last one. */
#define GDT_FROM_BLOCK	0x7fffffff

#if LINUX_2_2
#define DEFAULT_ENTRY sysenter_entry_gentle
#define DEFAULT_TRAPPED sysenter_trapped_gentle
#else
#define DEFAULT_ENTRY sysenter_entry_tss
#define DEFAULT_TRAPPED sysenter_trapped_tss
#endif

#define COUNT_SLOW(which) \
	lock; \
	incl	%ss:sysenter_slow+which; \
	SELF_REFERENCE

/* An indirect jump: a plain jmp is relative, and this text moves. */
#define LEAVE_TO(kernel_symbol, scratch) \
	movl	$kernel_symbol,scratch; \
	jmp	*scratch

	.text
	.globl	sysenter_text, sysenter_text_end
	.globl	sysenter_self_references, sysenter_self_references_end
	.globl	sysenter_slow
	.section .data
	.align	4
sysenter_self_references:
	.text

	.align	32
sysenter_text:

/* ------------------------------------------------------------------------
 * The ways to this task's kernel stack. Each sets %esp = esp0 and leaves every
 * other register as it was.
 *
 * HAZARD: until %esp is esp0 there is no task stack. IF is off and nothing here
 * can page-fault. But TF raises a #DB before the first instruction, and an NMI can
 * come at any time. sysenter_debug and sysenter_nmi below handle these.
 *
 * HAZARD: vm86. SYSENTER works in vm86 mode too, and SYSEXIT cannot return to it.
 * esp0 tells: while a task is in vm86 mode, the kernel keeps esp0 below the saved
 * registers and not at the end of the stack. So no context switch has to be watched
 * to keep such a task out.
 */

#if !LINUX_2_2

/* 2.4: TR never changes, and esp0 in its TSS is that of the current task. One load. */
	.macro	FIND_STACK_tss
	incl	(TSS_COUNT - TSS_ENTRY)(%esp)
	movl	(TSS_ESP0 - TSS_ENTRY)(%esp),%esp
	testl	$(THREAD_BYTES - 1),%esp
	jne	sysenter_vm86
	.endm

#else

	.macro	TASK_TO_EAX
	STR_EAX
	shrl	$2,%eax				# 16 bytes of GDT, 4 of task[]
	movl	%ss:kernel_task-(TSS0_SELECTOR >> 2)(%eax),%eax
	.endm

/* Cruel: our __switch_to has written SYSENTER_ESP for the current task. */
	.macro	FIND_STACK_cruel
	movl	(TASK_TSS_ESP0 - THREAD_BYTES + CRUEL_ROOM)(%esp),%esp
	testl	$(THREAD_BYTES - 1),%esp
	jne	sysenter_vm86
	.endm

/* Gentle: on 2.2 each task has a TSS, so TR tells which task is current. With TR in its
   low half, %esp points to the task's cell. A mark in the TSS's descriptor says that the
   cell is this task's; without it the cell is of the task that had the slot before. */
	.macro	FIND_STACK_gentle
	incl	(SLOT_COUNT - SLOT_SIZE)(%esp)
	STR_SP
	testb	$DESCRIPTOR_AVL,GDT_FROM_BLOCK(%esp)
	.globl	sysenter_gdt_test
sysenter_gdt_test:
	je	sysenter_fill
sysenter_filled:
	movl	CELL_STACK(%esp),%esp
	cmpl	%esp,(TASK_TSS_ESP0 - THREAD_BYTES)(%esp)
	jne	sysenter_vm86_top
	.endm

/* For a call that came with TF: keep %eax in the slot, which has room for it. */
	.macro	FIND_STACK_gentle_trapped
	incl	(SLOT_COUNT - SLOT_SIZE)(%esp)
	pushl	%eax
	TASK_TO_EAX
	pushl	%ss:TASK_TSS_ESP0(%eax)
	movl	4(%esp),%eax
	popl	%esp
	testl	$(THREAD_BYTES - 1),%esp
	jne	sysenter_vm86
	.endm

/* The way of the module of 2001: one global variable, so one CPU only. */
	.macro	FIND_STACK_global
	incl	%ss:sysenter_global_count
	SELF_REFERENCE
	movl	%eax,%ss:sysenter_global_eax	# a3 moffs32
	SELF_REFERENCE
	TASK_TO_EAX
	movl	%ss:TASK_TSS_ESP0(%eax),%esp
	movl	%ss:sysenter_global_eax,%eax
	SELF_REFERENCE
	testl	$(THREAD_BYTES - 1),%esp
	jne	sysenter_vm86
	.endm

#endif

/* The part of pt_regs that the processor pushes at int 0x80. */
	.macro	PUSH_HARDWARE_FRAME
	pushl	$USER_DS_SEL			# pt_regs->xss
	pushl	%ebp				# pt_regs->esp
	pushfl					# pt_regs->eflags, IF still off
	pushl	$USER_CS_SEL			# pt_regs->xcs
	.endm

/* HAZARD: the segments are flat and this is ring 0. So only this comparison stops a
   caller from having kernel memory fetched as its argument. If %ebp is below 4, the
   fetch of the return address wraps to the last word of the address space. No 2.2 or
   2.4 kernel maps that: the fetch faults, and the fault is fixed up. */
	.macro	CHECK_USER_STACK
	cmpl	$(USER_LIMIT - 4),%ebp
	ja	sysenter_bad_stack
	.endm

	.macro	PUSH_REST_BELOW_EAX
	pushl	%edi				# pt_regs->edi
	pushl	%esi				# pt_regs->esi
	pushl	%edx				# pt_regs->edx
	pushl	%ecx				# pt_regs->ecx
	pushl	%ebx				# pt_regs->ebx
	.endm

	/* from memory, because no register is free */
	.macro	LOAD_SEGMENTS
	mov	%ss:sysenter_user_ds,%ds
	SELF_REFERENCE
	mov	%ss:sysenter_user_ds,%es
	SELF_REFERENCE
	.endm

	/* %ecx = not 0 if exit work is pending. A bottom half that is disabled does not
	   count. */
	.macro	EXIT_WORK
#if LINUX_2_2
	movl	kernel_bh_mask,%ecx
	andl	kernel_bh_active,%ecx
	orl	CURRENT(TASK_NEED_RESCHED),%ecx
#else
	movl	CURRENT(TASK_NEED_RESCHED),%ecx
#endif
	orl	CURRENT(TASK_SIGPENDING),%ecx
	.endm

	/* Declined are: odd segments; calls that rewrite or copy pt_regs, which need IRET
	   and a whole EFLAGS; a traced task, because its tracer must see the call. */
	.macro	JUMP_IF_NOT_FAST where
	cmpl	$NR_CALLS,%eax
	jae	\where
	movl	%ds,%ecx
	movl	%es,%edx
	shll	$16,%edx
	leal	-(USER_DS_SEL << 16 | USER_DS_SEL)(%ecx,%edx),%ecx
	orl	%ss:sysenter_slow_call(,%eax,4),%ecx
#ifdef TRACE_IS_PTRACE
	orl	CURRENT(TASK_TRACE),%ecx	# any PT_ bit: all rare
	jne	\where
#else
	jne	\where
	testb	$TRACE_MASK,CURRENT(TASK_TRACE)
	jne	\where
#endif
	.endm

/* ------------------------------------------------------------------------
 * The entry itself, once for each way.
 */
	.macro	ENTRY_FROM_USER way, trapped
	.align	16
	.globl	sysenter_entry_\way
sysenter_entry_\way:
	FIND_STACK_\way
	PUSH_HARDWARE_FRAME
	CHECK_USER_STACK
	SANE_FLAGS
10:	pushl	-4(%ebp)			# pt_regs->eip
	pushl	%eax				# pt_regs->orig_eax
	subl	$UNFILLED,%esp			# pt_regs->xes, xds, eax
11:	pushl	(%ebp)				# pt_regs->ebp, 6th argument
	PUSH_REST_BELOW_EAX
	COUNT_CALL_\way
	JUMP_IF_NOT_FAST sysenter_decline
	call	*kernel_sys_call_table(,%eax,4)
	.globl	sysenter_called_\way
sysenter_called_\way:

	/* Test all that the kernel's own exit tests: work that is missed here waits
	   until the next interrupt. These kernels never change es without ds, so it is
	   enough to test ds. */
#if !LINUX_2_2
	cli					# the tests and SYSEXIT are one
	CHECK_SOFTIRQ
#endif
	movl	%ds,%ecx
	xorl	$USER_DS_SEL,%ecx
#if LINUX_2_2
	orl	kernel_bh_active,%ecx
#endif
	orl	CURRENT(TASK_NEED_RESCHED),%ecx
	orl	CURRENT(TASK_SIGPENDING),%ecx
	jne	13f

	/* ebx, esi, edi and ebp are unchanged: C functions preserve them. */
12:	movl	PT_EIP(%esp),%edx
	movl	PT_OLDESP(%esp),%ecx
	pushl	PT_EFLAGS(%esp)			# as the caller had it, IF off
	popfl
	sti					# on after the next instruction
	SYSEXIT

13:	EXIT_WORK
	jne	sysenter_exit_work
	LOAD_SEGMENTS
	jmp	12b
	FIXUP(10b, sysenter_bad_stack)
	FIXUP(11b, sysenter_bad_argument)

/* The same call with TF set: sysenter_debug comes here. TF goes into the frame and the
   kernel's int 0x80 entry does the rest. So a debugger sees what it sees with int 0x80:
   a trap after the first instruction behind the call. */
	.align	16
	.globl	sysenter_trapped_\way
sysenter_trapped_\way:
	FIND_STACK_\trapped
	PUSH_HARDWARE_FRAME
	orl	$EFLAGS_TF,4(%esp)
	jmp	sysenter_trapped
	.endm

	.macro	CHECK_SOFTIRQ
#ifdef SOFTIRQ_MASK				/* 2.4.0 to 2.4.6 */
#ifdef SYSENTER_SMP
	movl	CURRENT(TASK_CPU),%edx
	shll	$IRQ_STAT_SHIFT,%edx
	movl	kernel_irq_stat+SOFTIRQ_ACTIVE(%edx),%ecx
	testl	%ecx,kernel_irq_stat+SOFTIRQ_MASK(%edx)
#else
	movl	kernel_irq_stat+SOFTIRQ_ACTIVE,%ecx
	testl	%ecx,kernel_irq_stat+SOFTIRQ_MASK
#endif
	jne	sysenter_exit_work
#endif
	.endm

#if !LINUX_2_2
	.macro	COUNT_CALL_tss
	.endm
	ENTRY_FROM_USER tss, tss
#else
	.macro	COUNT_CALL_gentle
	.endm
	.macro	COUNT_CALL_global
	.endm
	.macro	COUNT_CALL_cruel
#ifdef SYSENTER_SMP
	movl	CURRENT(TASK_CPU),%edx
	shll	$COUNT_SHIFT,%edx
	incl	%ss:sysenter_counts(%edx)
#else
	incl	%ss:sysenter_counts
#endif
	.endm
	ENTRY_FROM_USER cruel, cruel
	ENTRY_FROM_USER gentle, gentle_trapped
	ENTRY_FROM_USER global, global
#endif

/* ------------------------------------------------------------------------
 * The slow ways out.
 */

#if LINUX_2_2
/* The first call of a task since it got its slot. %esp = its cell. */
sysenter_fill:
	movl	%eax,CELL_STACK(%esp)		# waits in the word to be filled
sysenter_fill_waits:
	TASK_TO_EAX
	addl	$THREAD_BYTES,%eax
	xchgl	%eax,CELL_STACK(%esp)
sysenter_fill_taken:
	orb	$DESCRIPTOR_AVL,GDT_FROM_BLOCK(%esp)
	.globl	sysenter_gdt_mark
sysenter_gdt_mark:
	jmp	sysenter_filled
#endif

/* pt_regs is pushed and the call is not made yet. Unwind to the frame that int 0x80 leaves
   for its handler, and go to that handler. The segments are still the caller's. */
sysenter_decline:
	COUNT_SLOW(SLOW_DECLINED)
	orl	$EFLAGS_IF,PT_EFLAGS(%esp)
	popl	%ebx
	popl	%ecx
	popl	%edx
	popl	%esi
	popl	%edi
	popl	%ebp				# 6th argument, where int 0x80 has it
	addl	$UNFILLED,%esp
	popl	%eax				# orig_eax: it pushes its own
sysenter_to_system_call:
	pushl	$kernel_system_call
	ret

/* The call is made and exit work is pending: a reschedule, a signal, a bottom half.
   %eax = the result. */
sysenter_exit_work:
	movl	%eax,PT_EAX(%esp)
	COUNT_SLOW(SLOW_EXIT)
	movl	$USER_DS_SEL,PT_DS(%esp)	# others are declined
	movl	$USER_DS_SEL,PT_ES(%esp)
	/* C may have changed its argument slots. It has preserved these registers. */
	movl	%ebx,PT_EBX(%esp)
	movl	%esi,PT_ESI(%esp)
	movl	%edi,PT_EDI(%esp)
sysenter_leave:
	orl	$EFLAGS_IF,PT_EFLAGS(%esp)
	sti
	movl	$-THREAD_BYTES,%ebx
	andl	%esp,%ebx			# ret_from_sys_call wants current
	LEAVE_TO(kernel_ret_from_sys_call, %eax)

/* TF was set. ss, esp, eflags and cs are pushed. */
sysenter_trapped:
	COUNT_SLOW(SLOW_TRAPPED)
	CHECK_USER_STACK
	SANE_FLAGS
	orl	$EFLAGS_IF,4(%esp)
30:	pushl	-4(%ebp)			# pt_regs->eip
31:	movl	(%ebp),%ebp
	jmp	sysenter_to_system_call
	FIXUP(30b, sysenter_bad_stack)
	FIXUP(31b, sysenter_no_argument)

/* The 6th argument at (%ebp) cannot be read: -EFAULT, as for any bad pointer. pt_regs is
   pushed down to eax. */
sysenter_bad_argument:
	addl	$UNFILLED + 4,%esp		# and orig_eax
sysenter_no_argument:
	pushl	$-1				# pt_regs->orig_eax: no restart
	pushl	%es				# pt_regs->xes
	pushl	%ds				# pt_regs->xds
	pushl	$MINUS_EFAULT			# pt_regs->eax
	pushl	%ebp				# pt_regs->ebp
	PUSH_REST_BELOW_EAX
	LOAD_SEGMENTS
	COUNT_SLOW(SLOW_FAULT)
	jmp	sysenter_leave

/* The return address at -4(%ebp) cannot be read, so only a SIGSEGV handler can be returned
   to. ss, esp, eflags and cs are pushed. */
sysenter_bad_stack:
	SANE_FLAGS
	pushl	$0				# pt_regs->eip
	pushl	$-1				# pt_regs->orig_eax: no restart
	pushl	%es				# pt_regs->xes
	pushl	%ds				# pt_regs->xds
	pushl	%eax				# pt_regs->eax
	pushl	%ebp				# pt_regs->ebp
	PUSH_REST_BELOW_EAX
	LOAD_SEGMENTS
	COUNT_SLOW(SLOW_FAULT)
sysenter_signal:
	movl	$sysenter_segv,%eax
	call	*%eax
	jmp	sysenter_leave

/* A vm86 task. It cannot go on, because its registers at SYSENTER are lost: SIGSEGV. The
   frame tells the kernel to leave vm86 mode first. %esp = esp0, where the processor itself
   would push. */
#if LINUX_2_2
sysenter_vm86_top:				# %esp is the end of the stack
	movl	(TASK_TSS_ESP0 - THREAD_BYTES)(%esp),%esp
#endif
sysenter_vm86:
	pushl	%gs				# the four that the processor
	pushl	%fs				# pushes in vm86 mode only
	pushl	%ds
	pushl	%es
	pushl	$0				# pt_regs->xss
	pushl	$0				# pt_regs->esp
	pushl	$(EFLAGS_VM|EFLAGS_IF|EFLAGS_FIXED) # pt_regs->eflags
	pushl	$0				# pt_regs->xcs
	pushl	$0				# pt_regs->eip
	pushl	$-1				# pt_regs->orig_eax: no restart
	pushl	$0				# pt_regs->xes, as the kernel has
	pushl	$0				# pt_regs->xds  them in vm86 mode
	pushl	%eax				# pt_regs->eax
	pushl	%ebp				# pt_regs->ebp
	PUSH_REST_BELOW_EAX
	SANE_FLAGS
	LOAD_SEGMENTS
	xorl	%edx,%edx			# as an interrupt from vm86 mode
	movl	%edx,%fs
	movl	%edx,%gs
	COUNT_SLOW(SLOW_VM86)
	jmp	sysenter_signal

/* ------------------------------------------------------------------------
 * Vector 1. HAZARD: TF set by the caller survives SYSENTER. It traps before the
 * entry's first instruction, on the entry stack, and there the kernel's handler
 * would take whatever is at %esp & -8192 for current. So this handler deals with
 * a #DB at that one address. All others go to the kernel's handler.
 *
 * A #DB at the entry without TF is a data breakpoint that a move to SS held back
 * over SYSENTER (CVE-2018-8897): the call goes on, and the hit is not reported.
 */
	.align	16
	.globl	sysenter_debug
	.globl	sysenter_debug_entry, sysenter_debug_distance
sysenter_debug:
	cmpl	$DEFAULT_ENTRY,(%esp)		# set when the way is chosen
sysenter_debug_entry:
	jne	40f
	cmpw	$KERNEL_CS_SEL,4(%esp)
	jne	40f
	testl	$EFLAGS_TF,8(%esp)
	je	41f
	andl	$~EFLAGS_TF,8(%esp)
	addl	$(DEFAULT_TRAPPED - DEFAULT_ENTRY),(%esp)
sysenter_debug_distance:
41:	iret
40:	jmp	*%ss:sysenter_kernel_debug
	SELF_REFERENCE

/* Vector 2. HAZARD: an NMI on the entry stack would run the kernel's handler there, with
   a wrong current. The task's own stack is empty, because the task has just left user
   mode. So the handler runs on that stack, and returns here. */
	.macro	CALL_KERNEL_NMI
	lock
	incl	%ss:sysenter_slow+SLOW_NMI
	SELF_REFERENCE
	pushfl					# what an interrupt pushes
	pushl	%cs
	call	sysenter_to_kernel_nmi		# pushes the address to return to
	.endm

	.align	16
	.globl	sysenter_nmi
sysenter_nmi:
	cmpl	%ss:sysenter_entry_stack_low,%esp
	SELF_REFERENCE
	jb	50f
	cmpl	%ss:sysenter_entry_stack_high,%esp
	SELF_REFERENCE
	jae	50f
#if LINUX_2_2
	cmpw	$SLOTS_AT,%sp
	jb	sysenter_nmi_cell
#endif
	pushl	%eax
	pushl	%ebx
	STR_EAX					# TSS base from its descriptor
	movzwl	%ax,%eax
	addl	%ss:sysenter_gdt,%eax
	SELF_REFERENCE
	movl	%ss:2(%eax),%ebx
	andl	$0x00ffffff,%ebx
	movl	%ss:4(%eax),%eax
	andl	$0xff000000,%eax
	orl	%eax,%ebx
	movl	%ss:4(%ebx),%ebx		# its esp0
	movl	%esp,%eax
	movl	%ebx,%esp
	pushl	%eax
	CALL_KERNEL_NMI
	popl	%esp				# back to the entry stack
	popl	%ebx
	popl	%eax
	iret

#if LINUX_2_2
/* HAZARD: a cell has room for one NMI's frame only, and the IRET of the kernel's handler
   unblocks the next NMI. So do not return to this frame: begin the entry again, at the
   filling of the cell. That needs EFLAGS, which is in the frame, and %eax. %eax is still
   in the register, or waits in the cell; either way it is kept where CS was. */
sysenter_nmi_cell:
	movl	%eax,4(%esp)
	cmpl	$sysenter_fill_waits,(%esp)
	SELF_REFERENCE
	jb	53f
	cmpl	$sysenter_fill_taken,(%esp)
	SELF_REFERENCE
	jae	53f
	movl	(CELL_STACK + 12)(%esp),%eax
	movl	%eax,4(%esp)
53:	TASK_TO_EAX
	movl	%ss:TASK_TSS_ESP0(%eax),%eax
	xchgl	%eax,%esp
	addl	$12,%eax
	pushl	%eax				# the cell
	pushl	%ss:8-12(%eax)			# EFLAGS
	pushl	%ss:4-12(%eax)			# %eax
	CALL_KERNEL_NMI
	popl	%eax
	popfl
	popl	%esp
	jmp	sysenter_fill

/* HAZARD: a vm86 task whose stack pointer came from the cell and is not yet compared with
   esp0. The NMI has overwritten three words with which the task would go on in 32-bit mode:
   EFLAGS, esp, ss. (It is recognised by its place: nowhere else is a frame from inside the
   kernel the first thing on a stack.) Write harmless values over them. The task then goes
   on like any vm86 caller, to SIGSEGV. */
50:	addl	$12,%esp			# the end of the stack?
	testl	$(THREAD_BYTES - 1),%esp
	jne	51f
	cmpl	%esp,(TASK_TSS_ESP0 - THREAD_BYTES)(%esp)
	jne	52f
51:	subl	$12,%esp
	jmp	sysenter_to_kernel_nmi
52:	subl	$12,%esp
	movl	$(EFLAGS_IF|EFLAGS_FIXED),(%esp)
	movl	$0,4(%esp)
	movl	$USER_DS_SEL,8(%esp)
	movl	(TASK_TSS_ESP0 - THREAD_BYTES + 12)(%esp),%esp
	CALL_KERNEL_NMI
	jmp	sysenter_vm86
#else
50:
#endif
sysenter_to_kernel_nmi:
	jmp	*%ss:sysenter_kernel_nmi
	SELF_REFERENCE

#if !LINUX_2_2
#include "syscall.S"
#endif

/* Data, written through the copy, all but the first. It is here, inside the copied text,
   so that reading it causes no page fault. */
	.align	4
sysenter_user_ds:		.long USER_DS_SEL
	.globl	sysenter_kernel_debug, sysenter_kernel_nmi, sysenter_gdt
	.globl	sysenter_entry_stack_low, sysenter_entry_stack_high
sysenter_kernel_debug:		.long 0
sysenter_kernel_nmi:		.long 0
sysenter_gdt:			.long 0
sysenter_entry_stack_low:	.long 0
sysenter_entry_stack_high:	.long 0
sysenter_slow:			.long 0,0,0,0,0,0
	.globl	sysenter_global_eax, sysenter_global_count
sysenter_global_eax:		.long 0
sysenter_global_count:		.long 0
sysenter_text_end:

	.section .data
sysenter_self_references_end:
