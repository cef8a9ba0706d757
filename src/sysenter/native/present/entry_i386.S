/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fast SYSENTER entry for i386, beside the kernel's own.
 *
 * MSR_IA32_SYSENTER_EIP points here while the module is loaded; CS and ESP stay
 * the kernel's. Everyone in the system who uses the vDSO comes through
 * sysenter_entry, so the first three instructions are everybody's.
 *
 * What SYSENTER does (Intel SDM Vol. 2B, SYSENTER): CS, SS flat and CPL 0,
 * ESP = MSR 0x175, EIP = MSR 0x176, VM = IF = RF = 0. It saves nothing, and
 * leaves TF, NT, AC, DF, IOPL and the data segments as the caller had them.
 *
 * Registers on entry, for a fast call as for the vDSO's:
 *	eax	system-call number (fast: | SYSENTER_MARK_I386, < SYSENTER_NR)
 *	ebx	1st argument
 *	ecx	2nd argument	(user code has pushed it)
 *	edx	3rd argument	(user code has pushed it)
 *	esi	4th argument
 *	edi	5th argument
 *	ebp	user stack: (ebp) 6th argument, 4 edx, 8 ecx, 12 return address
 *	esp	end of this CPU's entry stack
 *
 * On return by SYSEXIT: eax result; ebx, esi, edi as they were; ecx = ebp = esp
 * = the user stack, edx = the vDSO's landing pad, which pops ebp, edx and ecx;
 * ds = es = __USER_DS as after the kernel's own SYSEXIT; arithmetic flags
 * undefined, all others as they were.
 *
 * The frame. A system call's body is a C function: it takes its arguments from
 * pt_regs and keeps ebx, esi, edi and ebp. So those three need no restoring,
 * and of pt_regs only what the body can read or what differs from the last call
 * is written; the rest stands in the frame since FRAME_SS was put there
 * (frame.h: whatever else uses this stack destroys FRAME_SS first). A slot may
 * hold a stale value of the user's, never one of the kernel's: /proc/PID/syscall
 * shows the frame of a task that sleeps in here. The slow exit completes it.
 *
 * Where the kernel's own code is jumped to, the target is written into the
 * instruction at load time (KERNEL_*, kernel.c): no indirect branch, nothing to
 * mispredict. No path that can sleep keeps a return address into this module
 * but the one in `call_body`, and that one is announced by FRAME_SS.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/alternative.h>
#include <asm/cpufeatures.h>
#include <asm/errno.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include <asm/segment.h>
#include <asm/smap.h>
#include <uapi/asm/processor-flags.h>
#include "abi.h"
#include "frame.h"
#include "offsets.h"

/* kernel.c writes the address of a kernel symbol into a patch site of 32 bits. */
.macro KERNEL_PATCH symbol:req relative:req
	.pushsection .rodata.sysenter_patch_sites, "a"
	.long	.Lpatch_\@, kernel_\symbol, \relative
	.popsection
.Lpatch_\@:
	.long	0
.endm

/* jmp to a kernel symbol */
.macro KERNEL_JMP symbol:req
	.byte	0xe9
	KERNEL_PATCH \symbol 1
.endm

/* pushl the address of a kernel symbol */
.macro KERNEL_PUSH symbol:req
	.byte	0x68
	KERNEL_PATCH \symbol 0
.endm

/*
 * A return to \target that no branch predictor steers: speculation is caught
 * in the loop (the retpoline; Intel, "Deep Dive: Retpoline"). Always, not only
 * where the kernel has found that the processor needs it: where the kernel has
 * dropped its retpolines it has also dropped the indirect branch.
 *
 * enable: `sti` to let interrupts in where it goes, and not before, where one could
 * use up the predictor's entry for the ret.
 */
.macro RETPOLINE_JMP target:req enable=
	call	.Lreplace_\@
.Lcatch_\@:
	pause
	lfence
	jmp	.Lcatch_\@
.Lreplace_\@:
	movl	\target, (%esp)
	\enable				/* effective after the ret */
	ret
	int3
.endm

	/* segment selectors as memory operands: no register to spare for them */
	.section .rodata
	.balign	4
sysenter_user_ds:	.long	__USER_DS
sysenter_percpu:	.long	__KERNEL_PERCPU

	.section .rodata.sysenter_patch_sites, "a"
	.globl	sysenter_patch_sites, sysenter_patch_sites_end
sysenter_patch_sites:

	.section .text.sysenter, "ax"

	.p2align 6
SYM_CODE_START(sysenter_entry)
	/*
	 * HAZARD: NMI, #MC here or in the next instructions find the entry
	 * stack; the kernel's handlers know it by its address, not by EIP.
	 * HAZARD: TF set by the caller raises #DB from here on; unmarked by
	 * sysenter_die_notify() (main.c).
	 */
	pushfl					/* entry stack: caller's flags */
	cmpl	$(SYSENTER_MARK_I386 + SYSENTER_NR), %eax
	jge	.Lstock				/* signed: not marked, or number too large */

	/*
	 * HAZARD: NT makes a later IRET a task switch (CVE-2013-1917), AC opens
	 * SMAP, DF runs string operations backwards, TF traps on, IOPL lets the
	 * caller switch interrupts off. Whoever holds one goes the stock way.
	 */
	testl	$ODD_FLAGS, (%esp)
	jnz	.Lodd_flags

SYM_INNER_LABEL(sysenter_past_trampoline, SYM_L_GLOBAL)	/* from pti_i386.S */
	movl	ENTRY_STACK_TO_SP1 + 4(%esp), %esp	/* top of the task's stack */
	/*
	 * HAZARD: an NMI between these two overwrites the frame from the top,
	 * FRAME_SS first; it is looked at only below, under the stack pointer's
	 * protection.
	 */
	subl	$PT_SIZE, %esp
	cmpl	$FRAME_SS, PT_OLDSS(%esp)
	jne	.Lbuild_frame

	/* mask: no speculation with a number beyond the table (CVE-2017-5753) */
	andl	$(SYSENTER_NR - 1), %eax
	movl	%ebp, PT_OLDESP(%esp)
	movl	%eax, PT_ORIG_EAX(%esp)
	mov	%fs, PT_FS(%esp)
	movl	%edx, PT_EDX(%esp)
	movl	%ecx, PT_ECX(%esp)
	movl	%ebx, PT_EBX(%esp)
	/*
	 * HAZARD: the caller's ds and es may be null or the LDT's. They hardly
	 * ever are: to look is cheaper than to load. (A 32-bit move from a
	 * segment register clears the upper half since the Pentium Pro.)
	 */
	movl	%ds, %ecx
	movl	%es, %edx
	cmpl	$__USER_DS, %ecx
	jne	.Lload_segments
	cmpl	$__USER_DS, %edx
	jne	.Lload_segments
.Lsegments_loaded:
	/*
	 * HAZARD: if one of those jumps is mispredicted, ds is the caller's until
	 * the retpoline, with a base of its choice (CVE-2017-5753): %ss.
	 */
	mov	%ss:sysenter_percpu, %fs

.Lframe_built:
	movl	%fs:current_task, %edx
	/* ptrace, seccomp, audit, tracepoints, user dispatch: not here */
	cmpl	$0, %ss:TASK_syscall_work(%edx)
	jne	.Lslow
	movl	%ss:sysenter_calls(, %eax, 4), %ecx
	incl	%fs:sysenter_count

	/*
	 * ebp, which the body keeps, is the way back to the frame; it points
	 * where the stack unwinder expects a task's last frame
	 * (arch/x86/kernel/unwind_frame.c), so that a trace from inside ends
	 * cleanly at the caller's registers.
	 */
	leal	-LAST_FRAME(%esp), %ebp
#ifdef CONFIG_RANDOMIZE_KSTACK_OFFSET
	/*
	 * A stack offset that the caller cannot know, mixed as the kernel's
	 * choose_random_kstack_offset() does (include/linux/randomize_kstack.h)
	 * but before the call, when nothing is live in eax and edx: one of 256
	 * words, as there.
	 */
	rdtsc
	rorl	$5, %fs:sysenter_kstack_offset
	xorl	%eax, %fs:sysenter_kstack_offset
	movzbl	%fs:sysenter_kstack_offset, %edx
	movl	%esp, %eax			/* regs */
	leal	-4 * 255(%esp, %edx, 4), %esp
#else
	movl	%esp, %eax			/* regs */
#endif
SYM_INNER_LABEL(sysenter_call_body, SYM_L_GLOBAL)
	call	.Lcall_ecx			/* with interrupts on */
SYM_INNER_LABEL(sysenter_body_returns, SYM_L_GLOBAL)
	cli
	leal	LAST_FRAME(%ebp), %esp
	movl	%fs:current_task, %edx
	/* a soft IRQ needs no look: do_softirq ran when the interrupt ended */
	testl	$EXIT_WORK, TASK_ti_flags(%edx)
	jnz	.Lexit_work
	testl	$EXIT_SYSCALL_WORK, TASK_syscall_work(%edx)
	jnz	.Lexit_work

	/* sysenter_leave_syscall replaces the rest, or a jump to sysenter_leave_isolated */
SYM_INNER_LABEL(sysenter_leaves, SYM_L_GLOBAL)
	movl	PT_OLDESP(%esp), %ecx		/* SYSEXIT: ESP */
	movl	%ecx, %ebp			/* nothing of the kernel's in it */
	movl	PT_EIP(%esp), %edx		/* SYSEXIT: EIP, the landing pad */
.Lload_fs:
	mov	PT_FS(%esp), %fs		/* #GP, #NP if the LDT changed: fixed up */
#ifdef X86_FEATURE_CLEAR_CPU_BUF
	/* MDS and its kin: overwrite the buffers; any memory operand will do */
	ALTERNATIVE "", "verw %cs:sysenter_user_ds", X86_FEATURE_CLEAR_CPU_BUF
#endif
	sti					/* effective after the next instruction */
	sysexit
SYM_INNER_LABEL(sysenter_left, SYM_L_LOCAL)

.Lbad_fs:
	movl	$0, PT_FS(%esp)
	jmp	.Lload_fs
	_ASM_EXTABLE(.Lload_fs, .Lbad_fs)

.Lcall_ecx:
	RETPOLINE_JMP %ecx enable=sti

.Lload_segments:
	mov	%cs:sysenter_user_ds, %ds
	mov	%ds:sysenter_user_ds, %es
	jmp	.Lsegments_loaded

/*
 * Not ours: on to the kernel's own entry with every register, the flags and the
 * stack pointer as SYSENTER left them.
 */
.Lstock:
	popfl
	KERNEL_JMP entry_SYSENTER_32

/* Ours, but with flags to be careful about: a stock call with the same number. */
.Lodd_flags:
	andl	$(SYSENTER_NR - 1), %eax
	popfl
	KERNEL_JMP entry_SYSENTER_32

/*
 * The first fast call since something else used this stack: write the whole
 * frame. Joins the fast path with eax = number and the kernel's segments.
 */
.Lbuild_frame:
	andl	$(SYSENTER_NR - 1), %eax
	movl	%ebp, PT_OLDESP(%esp)
	movl	%eax, PT_ORIG_EAX(%esp)
	movl	$0, PT_FS(%esp)			/* the move below writes 16 bits */
	mov	%fs, PT_FS(%esp)
	movl	%ebp, PT_EBP(%esp)
	movl	%edi, PT_EDI(%esp)
	movl	%esi, PT_ESI(%esp)
	movl	%edx, PT_EDX(%esp)
	movl	%ecx, PT_ECX(%esp)
	movl	%ebx, PT_EBX(%esp)
	mov	%cs:sysenter_user_ds, %ds
	mov	%ds:sysenter_user_ds, %es
	mov	%ds:sysenter_percpu, %fs
	movl	$__USER_DS, PT_DS(%esp)
	movl	$__USER_DS, PT_ES(%esp)
	movl	$0, PT_GS(%esp)			/* the register keeps the user's gs */
	movl	$-ENOSYS, PT_EAX(%esp)
	movl	$__USER_CS, PT_CS(%esp)
	movl	$(X86_EFLAGS_IF | X86_EFLAGS_FIXED), PT_EFLAGS(%esp)
	movl	%fs:current_task, %edx
	movl	TASK_mm(%edx), %ecx
	movl	MM_vdso(%ecx), %ecx
	testl	%ecx, %ecx
	jz	.Lslow				/* no vDSO, no landing pad */
	addl	sysenter_landing_pad, %ecx
	movl	%ecx, PT_EIP(%esp)
	movl	$FRAME_SS, PT_OLDSS(%esp)
	jmp	.Lframe_built

/*
 * A call that wants the kernel's slow path from the start. esp = frame, IRQs
 * off, the kernel's segments; esi, edi, the user's; ebp = PT_OLDESP. Completes
 * pt_regs as entry_SYSENTER_32 would have it and hands over: do_SYSENTER_32()
 * returns to the kernel's IRET path, not here. cs, ds, es, gs and ax = -ENOSYS
 * stand in the frame since it was built: no fast call's body writes them
 * (build/calls.py), and .Lexit_work, which does, ends the frame.
 */
.Lslow:
	movl	PT_OLDESP(%esp), %ebp
	movl	%ebp, PT_EBP(%esp)		/* do_SYSENTER_32 fetches the 6th argument */
	movl	%edi, PT_EDI(%esp)
	movl	%esi, PT_ESI(%esp)
	pushfl
	popl	PT_EFLAGS(%esp)
	movl	$__USER_DS, PT_OLDSS(%esp)	/* no longer ours */
	movl	%esp, %eax			/* regs */
	KERNEL_PUSH restore_all_switch_stack
	KERNEL_JMP do_SYSENTER_32

/*
 * The body is done, eax = its result, and work is pending: signals, a
 * reschedule, tracing. esp = frame, IRQs off. Completes pt_regs and hands over
 * to the kernel's exit.
 */
.Lexit_work:
	movl	PT_OLDESP(%esp), %edx
	movl	%eax, PT_EAX(%esp)
	movl	%edi, PT_EDI(%esp)
	movl	%esi, PT_ESI(%esp)
	movl	%edx, PT_EBP(%esp)
	pushfl
	popl	PT_EFLAGS(%esp)
	orl	$X86_EFLAGS_IF, PT_EFLAGS(%esp)
	/*
	 * The kernel's entry has the 6th argument in pt_regs->bp: a signal frame
	 * and a debugger show it. Where it cannot be read the caller faults in
	 * the landing pad anyway.
	 */
	cmpl	$(LAST_FETCH + 1), %edx
	jae	.Lno_arg6
	sbbl	%ecx, %ecx			/* as in sysenter_call_args6 */
	andl	%ecx, %edx
	sti					/* the fetch may sleep on a page */
	ASM_STAC
.Lpeek_arg6:
	movl	(%edx), %ecx
	ASM_CLAC
	cli
	movl	%ecx, PT_EBP(%esp)
.Lno_arg6:
	movl	$__USER_DS, PT_OLDSS(%esp)	/* no longer ours */
	movl	%esp, %eax			/* regs */
	KERNEL_PUSH restore_all_switch_stack
	sti					/* effective after the jmp: nothing
						 * schedules us away in here */
	KERNEL_JMP syscall_exit_to_user_mode
.Lpeek_faulted:
	ASM_CLAC
	cli
	jmp	.Lno_arg6
	_ASM_EXTABLE(.Lpeek_arg6, .Lpeek_faulted)
SYM_CODE_END(sysenter_entry)

/*
 * Entries of sysenter_calls[] for what is not a plain body with up to three
 * arguments. Reached from sysenter_call_body: eax = regs, IRQs on, the return
 * address on the stack, esi and edi still the caller's.
 */

/* Outside the fast table: the kernel decides, from a complete frame. */
SYM_CODE_START(sysenter_call_slow)
	cli
	decl	%fs:sysenter_count		/* it is none, see above */
	movl	%eax, %esp			/* regs */
	jmp	.Lslow
SYM_CODE_END(sysenter_call_slow)

/* Six arguments: fetch the last from the caller's stack, as stock does. */
SYM_CODE_START(sysenter_call_args6)
	movl	PT_OLDESP(%eax), %edx
	cmpl	$(LAST_FETCH + 1), %edx
	jae	.Lfetch_refused
	sbbl	%ecx, %ecx			/* all ones if below: no speculative */
	andl	%ecx, %edx			/* fetch from the kernel (CVE-2017-5753) */
	ASM_STAC
.Lfetch_arg6:
	movl	(%edx), %ecx
	ASM_CLAC
	movl	%ecx, PT_EBP(%eax)
	jmp	sysenter_call_args5
.Lfetch_faulted:
	ASM_CLAC
.Lfetch_refused:
	movl	$-EFAULT, %eax
	ret
	_ASM_EXTABLE(.Lfetch_arg6, .Lfetch_faulted)
SYM_CODE_END(sysenter_call_args6)

/* Four or five arguments: esi and edi belong into the frame as well. */
SYM_CODE_START(sysenter_call_args5)
	movl	%esi, PT_ESI(%eax)
	movl	%edi, PT_EDI(%eax)
	movl	PT_ORIG_EAX(%eax), %ecx		/* masked on entry */
	movl	sysenter_bodies(, %ecx, 4), %ecx
	RETPOLINE_JMP %ecx
SYM_CODE_END(sysenter_call_args5)

#include "syscall_i386.S"
#ifdef SYSENTER_TRAMPOLINE
#include "pti_i386.S"
#endif

SYM_INNER_LABEL(sysenter_entry_end, SYM_L_GLOBAL)

/*
 * No kprobe and no kernel breakpoint in here, as in the kernel's own entry: the
 * stack and the segments may be the caller's. Inner labels are symbols, too.
 */
_ASM_NOKPROBE(sysenter_entry)
_ASM_NOKPROBE(sysenter_past_trampoline)
_ASM_NOKPROBE(sysenter_call_body)
_ASM_NOKPROBE(sysenter_body_returns)
_ASM_NOKPROBE(sysenter_leaves)
_ASM_NOKPROBE(sysenter_call_slow)
_ASM_NOKPROBE(sysenter_call_args6)
_ASM_NOKPROBE(sysenter_call_args5)

	.section .rodata.sysenter_patch_sites, "a"
sysenter_patch_sites_end:
