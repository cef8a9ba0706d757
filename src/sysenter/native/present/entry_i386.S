/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fast SYSENTER entry for i386, beside the kernel's own.
 *
 * MSR_IA32_SYSENTER_EIP points to sysenter_entry while the module is loaded. The MSRs for
 * CS and ESP stay the kernel's. Every call through the vDSO, of any program, comes here.
 * One that this entry does not serve takes five instructions more than without the module:
 * the first three, and the two at .Lstock.
 *
 * What SYSENTER does (Intel SDM Vol. 2B, SYSENTER): CS, SS flat and CPL 0,
 * ESP = MSR 0x175, EIP = MSR 0x176, VM = IF = RF = 0. It saves nothing, and
 * leaves TF, NT, AC, DF, IOPL and the data segments as the caller had them.
 *
 * Registers on entry, for a fast call as for the vDSO's:
 *	eax	system-call number, < SYSENTER_NR; marked: | SYSENTER_MARK_I386
 *	ebx	1st argument
 *	ecx	2nd argument	(user code has pushed it)
 *	edx	3rd argument	(user code has pushed it)
 *	esi	4th argument
 *	edi	5th argument
 *	ebp	user stack: (ebp) 6th argument, 4 edx, 8 ecx, 12 return address
 *	esp	end of this CPU's entry stack
 *
 * Registers on return, by SYSEXIT, as from the kernel's own entry:
 *	eax	result
 *	ebx, esi, edi	unchanged
 *	ecx, ebp, esp	the user stack
 *	edx	the vDSO's landing pad, which pops ebp, edx and ecx
 *	segments and all flags unchanged
 *
 * The frame. A system call's body is a C function. It reads its arguments from pt_regs
 * and preserves ebx, esi, edi and ebp, so the exit need not restore those. pt_regs is
 * complete while the body runs. But the fields that are the same in each call (ds, es,
 * gs, cs, ip, ax) are written once, together with FRAME_SS. They are still valid, because
 * any other use of this stack destroys FRAME_SS first (frame.h). pt_regs->bp holds the
 * caller's stack pointer and not the value that the vDSO has pushed there. Only calls
 * with six arguments and the slow exit fetch that value.
 *
 * A jump into the kernel's own code has its target written into the instruction at load
 * (KERNEL_*, kernel.c), so there is no indirect branch to mispredict. Three places can
 * sleep and come back to this module: the body, and the two that fetch the sixth argument.
 * FRAME_SS marks a task that is in one of them.
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
#include "compat.h"
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

/* call of a kernel symbol */
.macro KERNEL_CALL symbol:req
	.byte	0xe8
	KERNEL_PATCH \symbol 1
.endm

/*
 * Does the call take the fast path? If not, jump to \stock. This code takes marked calls,
 * by one signed comparison. For scope=all and scope=both arch_i386.c writes another
 * comparison and jump of the same length over it.
 */
.macro LOOK_AT_SCOPE stock:req
	.pushsection .rodata.sysenter_scope_sites, "a"
	.long	.Lscope_\@
	.popsection
.Lscope_\@:
	cmpl	$(SYSENTER_MARK_I386 + SYSENTER_NR), %eax
	.byte	0x0f, 0x8d			/* jge, with 32 bits of distance */
	.long	\stock - . - 4
.endm

/*
 * Jump to \odd if the caller's ds or es is not __USER_DS, as in nearly all programs, but
 * null or an LDT selector. A comparison is cheaper than a load. The kernel's own entry
 * handles such a caller; it preserves selectors that this entry would lose. Destroys ecx.
 * (Since the Pentium Pro a 32-bit move from a segment register clears the upper half.)
 */
.macro LOOK_AT_SEGMENTS odd:req
	movl	%ds, %ecx
	cmpl	$__USER_DS, %ecx
	jne	\odd
	movl	%es, %ecx
	cmpl	$__USER_DS, %ecx
	jne	\odd
.endm

/*
 * Set the arithmetic flags to those in eax, the caller's flags, in less time than by POPF.
 * OF is bit 3 of ah. Of the other bits of ah only IF (bit 1) may be set, because ODD_FLAGS
 * excludes the rest. So ah + 0x78 overflows exactly where OF is set. Destroys eax.
 */
.macro SET_ARITHMETIC_FLAGS
	xchgb	%al, %ah
	addb	$0x78, %al			/* OF */
	sahf					/* SF, ZF, AF, PF, CF */
.endm

	/* segment selectors in memory, because no register is free for them */
	.section .rodata
	.balign	4
sysenter_user_ds:	.long	__USER_DS
sysenter_percpu:	.long	__KERNEL_PERCPU

	.section .rodata.sysenter_patch_sites, "a"
	.globl	sysenter_patch_sites, sysenter_patch_sites_end
sysenter_patch_sites:

	.section .rodata.sysenter_scope_sites, "a"
	.globl	sysenter_scope_sites, sysenter_scope_sites_end
sysenter_scope_sites:

	.section .text.sysenter, "ax"

	.p2align 6
SYM_CODE_START(sysenter_entry)
	/*
	 * HAZARD: an NMI or #MC here or at the next instructions runs on the entry
	 * stack. The kernel's handlers recognise that stack by its address, not by EIP.
	 * HAZARD: TF set by the caller raises #DB from here on.
	 * sysenter_die_notify() (main.c) swallows that.
	 */
	pushfl					/* entry stack: caller's flags */
	LOOK_AT_SCOPE .Lstock

	/*
	 * HAZARD: NT makes a later IRET a task switch (CVE-2013-1917), AC disables
	 * SMAP, DF runs string operations backwards, TF traps each instruction, IOPL
	 * lets the caller switch interrupts off. A caller with one of them takes the
	 * kernel's own entry.
	 */
	testl	$ODD_FLAGS, (%esp)
	jnz	.Lodd_flags
	pushl	%ecx				/* entry stack: 2nd argument */
	LOOK_AT_SEGMENTS .Lodd_segments

SYM_INNER_LABEL(sysenter_past_trampoline, SYM_L_GLOBAL)	/* from pti_i386.S */
	/*
	 * A comparison as for ds and es cannot replace the load of fs. The caller's fs is
	 * never the kernel's, whose descriptor needs CPL 0, and SYSEXIT does not change
	 * fs. The load comes first, because nothing behind it starts before it is done.
	 */
	pushl	%fs				/* entry stack: caller's fs, 16 bits of it at least */
	mov	%ss:sysenter_percpu, %fs
	/*
	 * HAZARD: if the branches of LOOK_AT_SEGMENTS are mispredicted, ds and es are the
	 * caller's, with a base that the caller has chosen, and the body would run
	 * speculatively with them (CVE-2017-5753). LFENCE prevents that. Behind the load
	 * of fs, which waits by itself, it costs next to nothing. A processor without
	 * LFENCE takes the retpoline in sysenter_dispatch, and the code up to there
	 * uses %ss for its data.
	 */
	ALTERNATIVE "", "lfence", X86_FEATURE_LFENCE_RDTSC

	/* ecx = the entry stack: nothing overwrites it once esp has left it, with IRQs off */
	movl	%esp, %ecx
	movl	ENTRY_STACK_TO_SP1 + 12(%esp), %esp	/* top of the task's stack */
	/*
	 * HAZARD: an NMI between these two instructions overwrites the frame from its
	 * top, so it destroys FRAME_SS first. The entry reads FRAME_SS only below, when
	 * the frame is above the stack pointer and so out of an NMI's reach.
	 */
	subl	$PT_SIZE, %esp
	movl	%edx, PT_EDX(%esp)
	/* what was pushed, from the entry stack; to find it through the TSS takes longer */
	movzwl	%ss:(%ecx), %edx
	movl	%edx, PT_FS(%esp)
	movl	%ss:4(%ecx), %edx
	movl	%edx, PT_ECX(%esp)
	movl	%ss:8(%ecx), %edx
	orl	$X86_EFLAGS_IF, %edx
	movl	%edx, PT_EFLAGS(%esp)
	movl	%ebp, PT_OLDESP(%esp)
	movl	%ebp, PT_EBP(%esp)
	movl	%ebx, PT_EBX(%esp)
	movl	%esi, PT_ESI(%esp)
	movl	%edi, PT_EDI(%esp)
	movl	%eax, %edx			/* the number with its mark */
	/* mask: no speculation with a number beyond the tables (CVE-2017-5753) */
	andl	$(SYSENTER_NR - 1), %eax
	movl	%eax, PT_ORIG_EAX(%esp)

.Lentered:					/* from syscall_i386.S */
	cmpl	$FRAME_SS, PT_OLDSS(%esp)
	jne	.Lbuild_frame
.Lframe_stands:
	movl	%fs:current_task, %ecx
	/* syscall work (ptrace, seccomp, audit, tracepoints, user dispatch) goes to the kernel */
	cmpl	$0, %ss:TASK_syscall_work(%ecx)
	jne	.Lslow
	cmpb	$CALL_PLAIN, %ss:sysenter_kinds(%eax)
	jne	.Lnot_plain
.Lplain:
	testl	%edx, %edx
	js	.Lmarked
	incl	%fs:sysenter_count_all
.Lcounted:

	/*
	 * A stack offset that the caller cannot know: one of 256, as in the kernel
	 * (include/linux/randomize_kstack.h). Each CPU has its own generator; see
	 * DRAW_STACK_OFFSET in entry_amd64.S. The kernel's own code mixes in the time-stamp
	 * counter, which is no secret. Apart from the load of fs, that would take longer
	 * than the rest of this entry. The previous call drew this call's offset.
	 */
#ifdef CONFIG_RANDOMIZE_KSTACK_OFFSET
	imull	$0x5851f42d, %fs:sysenter_kstack_offset, %ebp
	movzbl	%fs:sysenter_kstack_offset + 3, %ecx
	movl	%ebp, %fs:sysenter_kstack_offset
#endif
	/*
	 * The body preserves ebp, so ebp leads back to the frame. It points to where
	 * the stack unwinder expects a task's last frame
	 * (arch/x86/kernel/unwind_frame.c), so that a trace from inside the body ends
	 * cleanly at the caller's registers.
	 */
	leal	-LAST_FRAME(%esp), %ebp
	movl	%eax, %edx			/* number */
	movl	%esp, %eax			/* regs */
#ifdef CONFIG_RANDOMIZE_KSTACK_OFFSET
	leal	-4 * 255(%esp, %ecx, 4), %esp
#endif
	sti					/* effective after the call */
SYM_INNER_LABEL(sysenter_call_body, SYM_L_GLOBAL)
	KERNEL_CALL dispatch			/* runs the body */
SYM_INNER_LABEL(sysenter_body_returns, SYM_L_GLOBAL)
	cli
	leal	LAST_FRAME(%ebp), %esp
	movl	%fs:current_task, %edx
	/* no test for soft IRQs: the end of the interrupt, or local_bh_enable(), ran them */
	testl	$EXIT_WORK, TASK_ti_flags(%edx)
	jnz	.Lexit_work
	testl	$EXIT_SYSCALL_WORK, TASK_syscall_work(%edx)
	/* on a processor that needs it, exit mitigations are between this test and its branch */
	ALTERNATIVE_2 "jnz .Lexit_work", "jmp .Lrare", FEATURE_IBPB_EXIT_TO_USER, "jmp .Lrare", X86_BUG_DIV0
.Lrare_done:

	/* load may write another exit over the rest: syscall_i386.S, pti_i386.S */
SYM_INNER_LABEL(sysenter_leaves, SYM_L_GLOBAL)
	movl	%eax, %ebp			/* result */
	movl	PT_OLDESP(%esp), %ecx		/* SYSEXIT: ESP */
	movl	PT_EIP(%esp), %edx		/* SYSEXIT: EIP, the landing pad */
	movl	PT_EFLAGS(%esp), %eax
.Lload_fs:
	mov	PT_FS(%esp), %fs		/* #GP, #NP if the LDT changed: fixed up */
#ifdef X86_FEATURE_CLEAR_CPU_BUF
	/*
	 * MDS and similar: VERW overwrites the buffers; any memory operand will do. VERW changes
	 * ZF, so the flags are set behind it, as in the kernel's own exit ("x86/entry_32: Do not
	 * clobber user EFLAGS.ZF"). Before it they would be no faster (replayed: within 3 cycles).
	 */
	ALTERNATIVE "", "verw %cs:sysenter_user_ds", X86_FEATURE_CLEAR_CPU_BUF
#endif
	SET_ARITHMETIC_FLAGS
	movl	%ebp, %eax
	movl	%ecx, %ebp			/* nothing of the kernel's in it */
	sti					/* effective after the next instruction */
	sysexit
SYM_INNER_LABEL(sysenter_left, SYM_L_LOCAL)

.Lbad_fs:
	movl	$0, PT_FS(%esp)
	jmp	.Lload_fs
	_ASM_EXTABLE(.Lload_fs, .Lbad_fs)

/*
 * A call for this entry, but with odd flags or segments. It becomes a stock call with the
 * same number: on to the kernel's own entry, with every register, the flags and the stack
 * pointer as SYSENTER left them.
 */
.Lodd_segments:
	popl	%ecx
.Lodd_flags:
	andl	$(SYSENTER_NR - 1), %eax
.Lstock:					/* not a call for this entry */
	popfl
	KERNEL_JMP entry_SYSENTER_32

/*
 * The first fast call after another use of this stack: write the fields that are the same
 * in each call. eax = number, edx = the number with its mark; ecx is free.
 */
.Lbuild_frame:
	movw	$0, PT_FS + 2(%esp)		/* SYSCALL's path stores only 16 bits of fs */
	movl	$__USER_DS, PT_DS(%esp)
	movl	$__USER_DS, PT_ES(%esp)
	movl	$0, PT_GS(%esp)			/* gs itself stays the user's */
	movl	$-ENOSYS, PT_EAX(%esp)
	movl	$__USER_CS, PT_CS(%esp)
	movl	%fs:current_task, %ecx
	/* enough for a watched task: do_SYSENTER_32() writes PT_EIP, as for its own entry */
	cmpl	$0, %ss:TASK_syscall_work(%ecx)
	jne	.Lslow
	movl	%ss:TASK_mm(%ecx), %ecx
	movl	%ss:MM_vdso(%ecx), %ecx
	testl	%ecx, %ecx
	jz	.Lslow				/* no vDSO, no landing pad */
	addl	%ss:sysenter_landing_pad, %ecx
	movl	%ecx, PT_EIP(%esp)
	movl	$FRAME_SS, PT_OLDSS(%esp)
	jmp	.Lframe_stands

.Lmarked:
	incl	%fs:sysenter_count
	jmp	.Lcounted

.Lnot_plain:
	cmpb	$CALL_SLOW, %ss:sysenter_kinds(%eax)
	je	.Lslow
	/*
	 * Six arguments: fetch the last from the caller's stack, at ebp. If it cannot be
	 * read, the kernel's own entry reports that.
	 */
	cmpl	$(LAST_FETCH + 1), %ebp
	jae	.Lslow
	sbbl	%ecx, %ecx			/* all ones if below: no speculative */
	andl	%ebp, %ecx			/* fetch from the kernel (CVE-2017-5753) */
	sti					/* the fetch may sleep on a page */
	ASM_STAC
.Lfetch_arg6:
	movl	%ss:(%ecx), %ecx
	ASM_CLAC
	cli
	movl	%ecx, PT_EBP(%esp)
	jmp	.Lplain
.Lfetch_faulted:
	ASM_CLAC
	cli
	_ASM_EXTABLE(.Lfetch_arg6, .Lfetch_faulted)

/*
 * A call that takes the kernel's slow path from the start. esp = frame, IRQs off, the
 * kernel's segments. It joins the kernel's entry at its call of do_SYSENTER_32(). The way
 * out is the kernel's own too.
 */
.Lslow:
	/* for a processor without LFENCE: right even if LOOK_AT_SEGMENTS was mispredicted */
	mov	%ss:sysenter_user_ds, %ds
	mov	%ss:sysenter_user_ds, %es
	movl	$__USER_DS, PT_OLDSS(%esp)	/* no longer a fast call */
	movl	%esp, %eax			/* regs */
	KERNEL_JMP call_of_do_SYSENTER_32

/*
 * Exit mitigations that few processors need. The flags are those of the last test for exit
 * work, eax = result, esp = frame, IRQs off; ebp, ecx and edx are free.
 */
.Lrare:
	jnz	.Lexit_work
#ifdef X86_FEATURE_IBPB_EXIT_TO_USER
	/* VMSCAPE: if a guest has run on this CPU, the kernel's exit issues a barrier */
	cmpb	$0, %fs:x86_ibpb_exit_to_user
	jne	.Lexit_work
#endif
	/* Zen 1's divider keeps its last quotient: clear it as amd_clear_divider() does */
	ALTERNATIVE "jmp .Lrare_done", "", X86_BUG_DIV0
	movl	%eax, %ebp
	xorl	%eax, %eax
	xorl	%edx, %edx
	movl	$1, %ecx
	divl	%ecx
	movl	%ebp, %eax
	jmp	.Lrare_done

/*
 * The body is done, eax = its result, and exit work is pending: signals, a reschedule,
 * tracing, VMSCAPE's barrier. esp = frame, IRQs off. Goes on to the kernel's exit.
 */
.Lexit_work:
	movl	%eax, PT_EAX(%esp)
	/*
	 * The kernel's entry keeps the 6th argument in pt_regs->bp, and a signal frame
	 * and a debugger show it. So fetch it here. If it cannot be read, the caller
	 * faults in the landing pad anyway.
	 */
	movl	PT_OLDESP(%esp), %edx
	cmpl	$(LAST_FETCH + 1), %edx
	jae	.Lno_arg6
	sbbl	%ecx, %ecx			/* as above */
	andl	%ecx, %edx
	sti
	ASM_STAC
.Lpeek_arg6:
	movl	(%edx), %ecx
	ASM_CLAC
	cli
	movl	%ecx, PT_EBP(%esp)
.Lno_arg6:
#ifdef HAVE_TRACE_SYSCALL_EXIT
	/* as at .Lexit_work in entry_amd64.S, which has the reason */
	movl	%fs:current_task, %edx
	testb	$SYSCALL_TRACEPOINT, TASK_syscall_work(%edx)
	jz	.Lno_sys_exit
	movl	%esp, %eax			/* regs */
	movl	PT_EAX(%esp), %edx		/* result */
	sti
	KERNEL_CALL trace_syscall_exit
	cli
.Lno_sys_exit:
	movl	$__USER_DS, PT_OLDSS(%esp)	/* no longer a fast call */
	movl	%esp, %eax			/* regs */
	xorl	%edx, %edx			/* irqentry_state_t, unused from user mode */
	KERNEL_PUSH restore_all_switch_stack	/* return address: the kernel's IRET path */
	KERNEL_JMP irqentry_exit
#else
	movl	$__USER_DS, PT_OLDSS(%esp)	/* no longer a fast call */
	movl	%esp, %eax			/* regs */
	KERNEL_PUSH restore_all_switch_stack	/* return address: the kernel's IRET path */
	sti					/* effective after the jmp: no task is
						 * preempted in this module's code */
	KERNEL_JMP syscall_exit_to_user_mode
#endif
.Lpeek_faulted:
	ASM_CLAC
	cli
	jmp	.Lno_arg6
	_ASM_EXTABLE(.Lpeek_arg6, .Lpeek_faulted)
SYM_CODE_END(sysenter_entry)

/*
 * Run the body on a kernel without ia32_sys_call() (arch_i386.c). eax = regs, edx = number.
 * The jump uses the kernel's own thunk, so the kernel chooses the mitigation for the
 * indirect branch. On a processor without LFENCE it is a retpoline: a RET whose
 * speculation ends in the loop (Intel, "Deep Dive: Retpoline").
 */
SYM_CODE_START(sysenter_dispatch)
	movl	%ss:sysenter_bodies(, %edx, 4), %ecx
#if defined(CONFIG_RETPOLINE) || defined(CONFIG_MITIGATION_RETPOLINE)
	ALTERNATIVE "", "jmp __x86_indirect_thunk_ecx", X86_FEATURE_LFENCE_RDTSC
#else
	ALTERNATIVE "", "jmp *%ecx", X86_FEATURE_LFENCE_RDTSC
#endif
	call	.Lreplace
.Lcatch:
	pause
	lfence
	jmp	.Lcatch
.Lreplace:
	movl	%ecx, (%esp)
	ret
	int3
SYM_CODE_END(sysenter_dispatch)

#include "syscall_i386.S"
#ifdef SYSENTER_TRAMPOLINE
#include "pti_i386.S"
#endif

SYM_INNER_LABEL(sysenter_entry_end, SYM_L_GLOBAL)

/*
 * No kprobe and no kernel breakpoint in here, as in the kernel's own entry: the stack and
 * the segments may be the caller's. Inner labels are symbols too, so each one is listed.
 */
_ASM_NOKPROBE(sysenter_entry)
_ASM_NOKPROBE(sysenter_past_trampoline)
_ASM_NOKPROBE(sysenter_call_body)
_ASM_NOKPROBE(sysenter_body_returns)
_ASM_NOKPROBE(sysenter_leaves)
_ASM_NOKPROBE(sysenter_left)
_ASM_NOKPROBE(sysenter_dispatch)

	.section .rodata.sysenter_scope_sites, "a"
sysenter_scope_sites_end:
	.section .rodata.sysenter_patch_sites, "a"
sysenter_patch_sites_end:
