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
 *	ebx, esi, edi	as they were
 *	ecx, ebp, esp	the user stack
 *	edx	the vDSO's landing pad, which pops ebp, edx and ecx
 *	segments and all flags as they were
 *
 * The frame. A system call's body is a C function: it takes its arguments from
 * pt_regs and keeps ebx, esi, edi and ebp, so those need no restoring. pt_regs is
 * complete while the body runs. But what is the same in each call (ds, es, gs, cs,
 * ip, ax) is written once. It stands in the frame since FRAME_SS was put there
 * (frame.h: whatever else uses this stack destroys FRAME_SS first). bp is the
 * caller's stack, and not what the vDSO has pushed there; only calls with six
 * arguments and the slow exit fetch that.
 *
 * Jumps into the kernel's own code have their target written into the instruction
 * at load (KERNEL_*, kernel.c): no indirect branch, nothing to mispredict. Only one
 * path that can sleep keeps a return address into this module, the one in
 * `sysenter_call_body'; FRAME_SS announces it.
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

/* call of a kernel symbol */
.macro KERNEL_CALL symbol:req
	.byte	0xe8
	KERNEL_PATCH \symbol 1
.endm

/*
 * Whose call is it? Goes to \stock with all that the module does not take. As it stands
 * here: marked ones, by one signed comparison; for scope=all and scope=both arch_i386.c
 * writes a comparison and a jump of the same length over it.
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
 * Is a data segment of the caller's other than it is for next to all of them, null or
 * the LDT's? To look is cheaper than to load; and the kernel's own entry keeps for
 * such a caller what ours would not. Destroys ecx. (A 32-bit move from a segment
 * register clears the upper half since the Pentium Pro.)
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
 * eax = the caller's flags: sets the arithmetic ones to these, as POPF does, but in a tenth
 * of its time. OF is bit 3 of ah, where IF (1) may be set and the others are 0
 * (ODD_FLAGS): + 0x78 overflows where OF is set. Destroys eax.
 */
.macro SET_ARITHMETIC_FLAGS
	xchgb	%al, %ah
	addb	$0x78, %al			/* OF */
	sahf					/* SF, ZF, AF, PF, CF */
.endm

	/* segment selectors as memory operands: no register to spare for them */
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
	 * HAZARD: NMI, #MC here or in the next instructions find the entry
	 * stack; the kernel's handlers know it by its address, not by EIP.
	 * HAZARD: TF set by the caller raises #DB from here on; swallowed by
	 * sysenter_die_notify() (main.c).
	 */
	pushfl					/* entry stack: caller's flags */
	LOOK_AT_SCOPE .Lstock

	/*
	 * HAZARD: NT makes a later IRET a task switch (CVE-2013-1917), AC opens
	 * SMAP, DF runs string operations backwards, TF traps on, IOPL lets the
	 * caller switch interrupts off. Whoever holds one goes the stock way.
	 */
	testl	$ODD_FLAGS, (%esp)
	jnz	.Lodd_flags
	pushl	%ecx
	LOOK_AT_SEGMENTS .Lodd_segments

SYM_INNER_LABEL(sysenter_past_trampoline, SYM_L_GLOBAL)	/* from pti_i386.S */
	/*
	 * fs cannot be looked at as ds and es are: the caller's is never the kernel's
	 * (its descriptor is for CPL 0), and SYSEXIT takes it along. Its load comes first,
	 * since nothing behind it begins before it is done.
	 */
	pushl	%fs				/* 16 bits at least */
	mov	%ss:sysenter_percpu, %fs
	/*
	 * HAZARD: if LOOK_AT_SEGMENTS is mispredicted, ds and es are the caller's, with a
	 * base of its choice, and the body would be run speculatively (CVE-2017-5753).
	 * Behind the load of fs, which waits itself, LFENCE costs next to nothing; a processor
	 * that has none goes by the retpoline in sysenter_dispatch, and until there it is %ss.
	 */
	ALTERNATIVE "", "lfence", X86_FEATURE_LFENCE_RDTSC

	/* ecx: the entry stack, which nothing uses while interrupts are off once esp has left it */
	movl	%esp, %ecx
	movl	ENTRY_STACK_TO_SP1 + 12(%esp), %esp	/* top of the task's stack */
	/*
	 * HAZARD: an NMI between these two overwrites the frame from the top,
	 * FRAME_SS first; it is looked at only below, under the stack pointer's
	 * protection.
	 */
	subl	$PT_SIZE, %esp
	movl	%edx, PT_EDX(%esp)
	/* read here: by way of the TSS, from behind the load of fs, it took 13 cycles more */
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
	movl	%eax, %edx			/* its mark */
	/* mask: no speculation with a number beyond the tables (CVE-2017-5753) */
	andl	$(SYSENTER_NR - 1), %eax
	movl	%eax, PT_ORIG_EAX(%esp)

.Lentered:					/* from syscall_i386.S */
	cmpl	$FRAME_SS, PT_OLDSS(%esp)
	jne	.Lbuild_frame
.Lframe_stands:
	movl	%fs:current_task, %ecx
	/* ptrace, seccomp, audit, tracepoints, user dispatch: not here */
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
	 * A stack offset that the caller cannot know, one of 256 words as in the kernel
	 * (include/linux/randomize_kstack.h), from a generator of each CPU's (entry_amd64.S
	 * says more). The kernel's own mixes the time-stamp counter in, which is no secret
	 * and takes longer than all the rest of this entry but the segment.
	 * This call's offset was drawn by the call before.
	 */
#ifdef CONFIG_RANDOMIZE_KSTACK_OFFSET
	imull	$0x5851f42d, %fs:sysenter_kstack_offset, %ebp
	movzbl	%fs:sysenter_kstack_offset + 3, %ecx
	movl	%ebp, %fs:sysenter_kstack_offset
#endif
	/*
	 * ebp, which the body keeps, is the way back to the frame; it points
	 * where the stack unwinder expects a task's last frame
	 * (arch/x86/kernel/unwind_frame.c), so that a trace from inside ends
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
	/* a soft IRQ needs no look: do_softirq ran when the interrupt ended */
	testl	$EXIT_WORK, TASK_ti_flags(%edx)
	jnz	.Lexit_work
	testl	$EXIT_SYSCALL_WORK, TASK_syscall_work(%edx)
	jnz	.Lexit_work

	/* sysenter_leave_syscall replaces the rest, or a jump to sysenter_leave_isolated */
SYM_INNER_LABEL(sysenter_leaves, SYM_L_GLOBAL)
	movl	%eax, %ebp			/* result */
	movl	PT_OLDESP(%esp), %ecx		/* SYSEXIT: ESP */
	movl	PT_EIP(%esp), %edx		/* SYSEXIT: EIP, the landing pad */
	movl	PT_EFLAGS(%esp), %eax
.Lload_fs:
	mov	PT_FS(%esp), %fs		/* #GP, #NP if the LDT changed: fixed up */
#ifdef X86_FEATURE_CLEAR_CPU_BUF
	/*
	 * MDS and its kin: overwrite the buffers; any memory operand will do. It changes ZF, so
	 * the flags come behind it, as in the kernel's own exit ("x86/entry_32: Do not clobber
	 * user EFLAGS.ZF"). In front of it they would be no faster (replayed: within 3 cycles).
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
 * Ours, but with flags or segments to be careful about: a stock call with the same
 * number. On to the kernel's own entry with every register, the flags and the stack
 * pointer as SYSENTER left them.
 */
.Lodd_segments:
	popl	%ecx
.Lodd_flags:
	andl	$(SYSENTER_NR - 1), %eax
.Lstock:					/* not ours */
	popfl
	KERNEL_JMP entry_SYSENTER_32

/*
 * The first fast call since something else used this stack: write what is the same in
 * all of them. eax = number, edx = with its mark; ecx is free.
 */
.Lbuild_frame:
	movw	$0, PT_FS + 2(%esp)		/* SYSCALL's store of fs has 16 bits */
	movl	$__USER_DS, PT_DS(%esp)
	movl	$__USER_DS, PT_ES(%esp)
	movl	$0, PT_GS(%esp)			/* the register keeps the user's gs */
	movl	$-ENOSYS, PT_EAX(%esp)
	movl	$__USER_CS, PT_CS(%esp)
	movl	%fs:current_task, %ecx
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
	 * Six arguments: fetch the last from the caller's stack, ebp. Where it cannot be
	 * read, the kernel is to say so.
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
 * A call that wants the kernel's slow path from the start. esp = frame, IRQs off, the
 * kernel's segments. Into the kernel's entry, where that calls do_SYSENTER_32(): the
 * rest, the way out too, is its own.
 */
.Lslow:
	/* these are the kernel's already, but when LOOK_AT_SEGMENTS was mispredicted */
	mov	%ss:sysenter_user_ds, %ds
	mov	%ss:sysenter_user_ds, %es
	movl	$__USER_DS, PT_OLDSS(%esp)	/* no longer ours */
	movl	%esp, %eax			/* regs */
	KERNEL_JMP call_of_do_SYSENTER_32

/*
 * The body is done, eax = its result, and work is pending: signals, a
 * reschedule, tracing. esp = frame, IRQs off. Hands over to the kernel's exit.
 */
.Lexit_work:
	movl	%eax, PT_EAX(%esp)
	/*
	 * The kernel's entry has the 6th argument in pt_regs->bp: a signal frame
	 * and a debugger show it. Where it cannot be read the caller faults in
	 * the landing pad anyway.
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
 * What runs the body where ia32_sys_call() does not (arch_i386.c): eax = regs, edx = number.
 * By the kernel's own thunk, and so by its choice of mitigation; on a processor without
 * LFENCE by a jump that no branch predictor steers: speculation is caught in the loop (the
 * retpoline; Intel, "Deep Dive: Retpoline").
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
 * No kprobe and no kernel breakpoint in here, as in the kernel's own entry: the
 * stack and the segments may be the caller's. Inner labels are symbols, too.
 */
_ASM_NOKPROBE(sysenter_entry)
_ASM_NOKPROBE(sysenter_past_trampoline)
_ASM_NOKPROBE(sysenter_call_body)
_ASM_NOKPROBE(sysenter_body_returns)
_ASM_NOKPROBE(sysenter_leaves)
_ASM_NOKPROBE(sysenter_dispatch)

	.section .rodata.sysenter_scope_sites, "a"
sysenter_scope_sites_end:
	.section .rodata.sysenter_patch_sites, "a"
sysenter_patch_sites_end:
