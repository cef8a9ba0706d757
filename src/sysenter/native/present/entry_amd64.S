/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fast SYSENTER entry for amd64, beside the kernel's own.
 *
 * MSR_IA32_SYSENTER_EIP points to sysenter_entry while the module is loaded. The MSRs for
 * CS and ESP stay the kernel's. A 64-bit program makes its stock calls by SYSCALL, so an
 * unmarked call here comes from a 32-bit program's vDSO. It goes on to
 * entry_SYSENTER_compat with all registers and flags as SYSENTER left them.
 *
 * What SYSENTER does in IA-32e mode (Intel SDM Vol. 2B, SYSENTER): CS, SS flat,
 * 64-bit and CPL 0, RSP = MSR 0x175, RIP = MSR 0x176, VM = IF = RF = 0. It saves
 * nothing, and leaves TF, NT, AC, DF and IOPL as the caller had them. AMD's
 * processors have it in legacy mode only (#UD elsewhere).
 *
 * Registers on entry, for a fast call:
 *	rax	system-call number - SYSENTER_NR: the mark, see abi.h
 *	rdi, rsi, rdx, r10, r8, r9	arguments, as for SYSCALL
 *	rcx	return address. The two bytes before it must be a SYSCALL
 *		instruction, because the kernel restarts an interrupted call by
 *		moving rip back by two
 *	r11	user stack pointer
 *	rsp	end of this CPU's entry stack
 *	gs	the user's
 *
 * Registers on return, by SYSRET:
 *	rax		result
 *	rcx, rsp	return address and stack pointer, as given
 *	rbx, rbp, r12 to r15	unchanged
 *	rdi, rsi, rdx, r8 to r10	zero after a fast call; after exit work what the
 *		program had in them at this call or at an earlier one; unchanged after
 *		a slow call
 *	r11		the flags
 *	flags		arithmetic flags 0, after a slow call unchanged; all others
 *		unchanged
 *
 * The frame. The entry writes only those fields of pt_regs that the body can read, or
 * that differ from call to call. The other fields were written together with FRAME_SS
 * and are still valid, because any other use of this stack destroys FRAME_SS first
 * (frame.h). A field may hold a stale value of the user's, never one of the kernel's:
 * /proc/PID/syscall shows the frame of a task that sleeps in a call. The slow exit
 * completes the frame.
 *
 * When the body begins, no register holds a value of the caller's, as after the
 * kernel's own entry: such a value could steer a gadget in the body (CVE-2017-5753;
 * PUSH_AND_CLEAR_REGS, arch/x86/entry/calling.h). The registers that the body
 * preserves hold the entry's own values: rbx the top of the stack, rbp current,
 * r12 to r15 zero.
 *
 * A jump into the kernel's own code has its target written into the instruction at load
 * (KERNEL_*, kernel.c). Of the paths that can sleep, only the one through the body keeps
 * a return address into this module, and FRAME_SS marks a task that is on it.
 *
 * The kernel decides which mitigations apply. Each one here stands behind an ALTERNATIVE
 * on the feature bit that the kernel sets for that mitigation. If the kernel sets none of
 * these bits, an entry without that code is used. sysenter_arch_check() chooses the
 * entry. It refuses a kernel with a mitigation that this file does not have.
 *
 * HAZARD: NMI, #DB, #MC and #DF can come at any instruction, also where GS, CR3 or RSP
 * is the user's. On amd64 they have stacks of their own (IST), and their handlers find
 * out by themselves whose GS and CR3 are in use. Nothing else can come at such an
 * instruction: interrupts are off, and none of these instructions faults.
 */
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <asm/alternative.h>
#include <asm/cpufeatures.h>
#include <asm/errno.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include <asm/processor-flags.h>
#include <asm/segment.h>
#include <asm/unwind_hints.h>
#include "abi.h"
#include "compat.h"
#include "frame.h"
#include "offsets.h"

/*
 * kernel.c writes the address of a kernel symbol into the last four bytes of the
 * instruction before this.
 */
.macro PATCH_BEFORE symbol:req relative=0
.Lpatch_end_\@:
	.pushsection .rodata.sysenter_patch_sites, "a"
	.quad	.Lpatch_end_\@ - 4 - sysenter_entry, kernel_\symbol, \relative
	.popsection
.endm

/* jmp to a kernel symbol */
.macro KERNEL_JMP symbol:req
	.byte	0xe9
	.long	0
	PATCH_BEFORE \symbol relative=1
.endm

/* call a kernel symbol */
.macro KERNEL_CALL symbol:req
	ANNOTATE_INTRA_FUNCTION_CALL		/* for objtool: the target is not written yet */
	.byte	0xe8
	.long	0
	PATCH_BEFORE \symbol relative=1
.endm

/* pushq the address of a kernel symbol */
.macro KERNEL_PUSH symbol:req
	.byte	0x68
	.long	0
	PATCH_BEFORE \symbol
.endm

/*
 * The operand for one of the kernel's per-CPU variables, in an instruction with a
 * displacement and no immediate. A PATCH_BEFORE behind it names the variable.
 */
#define PERCPU_PATCHED	%gs:0x7fffffff

/* As the retpoline in entry_i386.S. hint: tells the stack unwinder where the caller is. */
.macro RETPOLINE_JMP target:req hint=UNWIND_HINT_UNKNOWN_CALLER
	ANNOTATE_INTRA_FUNCTION_CALL
	call	.Lreplace_\@
.Lcatch_\@:
	UNWIND_HINT_UNKNOWN_CALLER
	pause
	lfence
	jmp	.Lcatch_\@
.Lreplace_\@:
	\hint
	movq	\target, (%rsp)
	ANNOTATE_UNRET_SAFE
	ret
	int3
.endm

/* The offset of a field of pt_regs from the top of the stack. */
#define FRAME(field)	(PT_##field - PT_SIZE)

/*
 * Page-table isolation: switch from the user's page table to the kernel's and back.
 * Bit 12 of CR3 tells the two apart, and bit 11 tells their PCIDs apart.
 */
#define PTI_USER_PGTABLE	(1 << 12)
#define PTI_USER_PCID		(1 << 11)
#define CR3_NOFLUSH_BIT		63

.macro KERNEL_CR3 scratch:req
	movq	%cr3, \scratch
	/* no flush: the kernel flushes its own PCID when it has to */
	ALTERNATIVE "", "btsq $63, \scratch", X86_FEATURE_PCID
	andq	$~(PTI_USER_PGTABLE | PTI_USER_PCID), \scratch
	movq	\scratch, %cr3
.endm

/*
 * Switch to the user's page table. rdi = 0, r11 is free, rsp is the user's.
 *
 * With PCIDs, a change to this process's page table does not flush its user PCID at once.
 * It sets a bit for that address space, and the next return to the user flushes.
 */
.macro USER_CR3
	movq	%cr3, %r11
	ALTERNATIVE "jmp .Lset_cr3_\@", "", X86_FEATURE_PCID
	movl	%r11d, %edi
	andl	$0x7ff, %edi
	btq	%rdi, PERCPU_PATCHED
	PATCH_BEFORE user_pcid_flush_mask
	jnc	.Lno_flush_\@
	btrq	%rdi, PERCPU_PATCHED
	PATCH_BEFORE user_pcid_flush_mask
	jmp	.Lflush_\@
.Lno_flush_\@:
	btsq	$CR3_NOFLUSH_BIT, %r11
.Lflush_\@:
	xorl	%edi, %edi
	orq	$PTI_USER_PCID, %r11
.Lset_cr3_\@:
	orq	$PTI_USER_PGTABLE, %r11
	movq	%r11, %cr3
.endm

/*
 * Entry: switch IBRS on, against a branch predictor that user code has trained (retbleed),
 * and clear the branch history (BHI). rsp = top of the stack. rcx and rdx are free. rax
 * holds the number; the frame holds it too.
 */
.macro ENTRY_MITIGATIONS
	ALTERNATIVE "jmp .Librs_done_\@", "", X86_FEATURE_KERNEL_IBRS
	movl	$MSR_IA32_SPEC_CTRL, %ecx
	movq	PERCPU_PATCHED, %rdx
	PATCH_BEFORE x86_spec_ctrl_current
	movl	%edx, %eax
	shrq	$32, %rdx
	wrmsr
	movq	FRAME(ORIG_RAX)(%rsp), %rax
.Librs_done_\@:
	ALTERNATIVE "jmp .Lhistory_done_\@", "", FEATURE_CLEAR_BHB_LOOP
	leaq	-PT_SIZE(%rsp), %rsp
	KERNEL_CALL clear_bhb_loop		/* clobbers rax, rcx */
	leaq	PT_SIZE(%rsp), %rsp
	movq	FRAME(ORIG_RAX)(%rsp), %rax
.Lhistory_done_\@:
.endm

/*
 * Exit: if a guest has run on this CPU, the kernel's exit issues a barrier (VMSCAPE).
 * Then switch IBRS off. rax = result, rdi = 0; rcx, rdx and r8 are free.
 */
.macro EXIT_MITIGATIONS
	ALTERNATIVE "jmp .Lvmscape_done_\@", "", FEATURE_IBPB_EXIT_TO_USER
	movzbl	PERCPU_PATCHED, %ecx
	PATCH_BEFORE x86_ibpb_exit_to_user
	testl	%ecx, %ecx
	jnz	.Lexit_work
.Lvmscape_done_\@:
	ALTERNATIVE "jmp .Librs_done_\@", "", X86_FEATURE_KERNEL_IBRS
	movq	%rax, %r8
	movl	$MSR_IA32_SPEC_CTRL, %ecx
	movq	PERCPU_PATCHED, %rdx
	PATCH_BEFORE x86_spec_ctrl_current
	andl	$~SPEC_CTRL_IBRS, %edx
	movl	%edx, %eax
	shrq	$32, %rdx
	wrmsr
	movq	%r8, %rax
.Librs_done_\@:
.endm

/*
 * The first fast call after another use of this stack: write the fields that the fast
 * path itself does not write. rsp = top of the stack.
 */
.macro BUILD_FRAME
	movq	FRAME(RIP)(%rsp), %rcx
	movq	%rcx, FRAME(RCX)(%rsp)
	movq	$-ENOSYS, FRAME(RAX)(%rsp)
	movq	%r8, FRAME(R8)(%rsp)
	movq	%r9, FRAME(R9)(%rsp)
	movq	%r10, FRAME(R10)(%rsp)
	movq	$USER_FLAGS, FRAME(R11)(%rsp)
	movq	$__USER_CS, FRAME(CS)(%rsp)
	movq	$USER_FLAGS, FRAME(EFLAGS)(%rsp)
	movq	$FRAME_SS, FRAME(SS)(%rsp)
.endm

/*
 * r10 = a random number from 0 to 255 that the caller cannot know. The caller of this macro
 * leaves 255 - r10 words of eight bytes free on the stack. rdx = the next state, which is
 * not the caller's value either. The previous call drew this call's number, so this call
 * does not wait for the multiplication.
 *
 * Each CPU has its own generator, as in the latest kernels (include/linux/
 * randomize_kstack.h). Earlier kernels mix in the time-stamp counter, which is slower, and
 * which the caller can read too. The generator multiplies modulo 2^64. Any factor that is
 * 5 modulo 8 gives the full period of 2^62 for an odd state (Knuth, The Art of Computer
 * Programming, 3.2.1.2, theorem C). The number is the state's uppermost byte.
 */
.macro DRAW_STACK_OFFSET
	movq	PER_CPU_VAR(sysenter_kstack_offset), %r10
	imulq	$0x5851f42d, %r10, %rdx
	shrq	$56, %r10
	movq	%rdx, PER_CPU_VAR(sysenter_kstack_offset)
.endm

/*
 * The fast path, from the entry to the exit.
 *
 * mitigations: 0 for a kernel that applies none of ENTRY_ and EXIT_MITIGATIONS: their code
 * is left out. 1 for a kernel that applies some: each is behind an ALTERNATIVE on the
 * feature bit that the kernel sets for it. pti: the same for page-table isolation.
 */
.macro FAST_PATH name:req mitigations:req pti:req
SYM_CODE_START(\name)
	UNWIND_HINT_UNKNOWN_CALLER
	ENDBR
	/* without IBT, the MSR points here and the ENDBR is skipped */
SYM_INNER_LABEL(\name\()_no_ibt, SYM_L_GLOBAL)
	ANNOTATE_NOENDBR
	/*
	 * HAZARD: TF set by the caller raises #DB from here on.
	 * sysenter_die_notify() (main.c) swallows that.
	 */
	pushfq					/* entry stack: caller's flags */
	cmpq	$-SYSENTER_NR, %rax
	jb	.Lstock				/* unsigned: below all marked numbers */

	/*
	 * HAZARD: NT makes a later IRET fault (CVE-2013-1917), AC disables SMAP,
	 * DF runs string operations backwards, TF traps each instruction, IOPL
	 * lets the caller switch interrupts off. A caller with one of them takes
	 * the slow path.
	 */
	testl	$ODD_FLAGS, (%rsp)
	jnz	.Lodd_flags

	swapgs
	.if \pti
	KERNEL_CR3 %rsp
	.endif
	movq	PERCPU_PATCHED, %rsp		/* top of the task's stack */
	PATCH_BEFORE top_of_stack
	movq	%r11, FRAME(RSP)(%rsp)
	movq	%rcx, FRAME(RIP)(%rsp)
	/* mask: the number, and no speculation beyond the tables (CVE-2017-5753) */
	andl	$(SYSENTER_NR - 1), %eax
	movq	%rbp, FRAME(RBP)(%rsp)
	movq	PERCPU_PATCHED, %rbp
	PATCH_BEFORE current_task
	movq	%rax, FRAME(ORIG_RAX)(%rsp)
.Lframe_built_\name:
	/*
	 * One comparison finds all calls that cannot go on here; .Lnot_plain then
	 * finds out why. The comparison answers four questions:
	 * - Is the return address below 2^47? Then it is canonical, with four and
	 *   with five levels of page table. HAZARD: SYSRET to an address that is not
	 *   canonical faults in kernel mode, on the user's stack (CVE-2012-0217).
	 * - Is there no syscall work: ptrace, seccomp, audit, tracepoint, user dispatch?
	 * - Is the frame valid: is the topmost word of the stack FRAME_SS?
	 * - Is the number in the fast table, with three arguments at most?
	 *
	 * Proof. Let v = return address >> 47 | syscall_work, and t = the topmost word.
	 * rcx becomes v ^ t and is compared with e = sysenter_expected[number].
	 *   v is below 2^17: the shift leaves 17 bits, and syscall_work has fewer.
	 *   e is FRAME_SS for a number in the fast table. FRAME_SS has bit 30 set and
	 *     no higher bit. For any other number e has bit 62 set and bit 63 clear
	 *     (frame.h, NUMBER_SLOW).
	 *   t is an ss or a return address: every other use of this stack begins by
	 *     writing one of them to its topmost word (frame.h).
	 * All cases:
	 *
	 *	v	t		e		v ^ t		differs from e, because
	 *	0	FRAME_SS	FRAME_SS	FRAME_SS	(equal: the fast path)
	 *	0	FRAME_SS	other		FRAME_SS	bit 62 is 0
	 *	not 0	FRAME_SS	FRAME_SS	not FRAME_SS	v is not 0
	 *	not 0	FRAME_SS	other		< 2^31		bit 62 is 0
	 *	any	selector or 0	FRAME_SS	< 2^17		bit 30 is 0
	 *	any	selector or 0	other		< 2^17		bit 62 is 0
	 *	any	kernel address	any		bit 63 is 1	e has bit 63 0
	 */
	shrq	$47, %rcx
	orq	TASK_syscall_work(%rbp), %rcx
	xorq	FRAME(SS)(%rsp), %rcx
	cmpq	sysenter_expected(, %rax, 8), %rcx
	jne	.Lnot_plain_\name
.Lplain_\name:
	movq	%rdi, FRAME(RDI)(%rsp)
	movq	%rsi, FRAME(RSI)(%rsp)
	movq	%rdx, FRAME(RDX)(%rsp)
	movq	%rbx, FRAME(RBX)(%rsp)
	movq	%r12, FRAME(R12)(%rsp)
	movq	%r13, FRAME(R13)(%rsp)
	movq	%r14, FRAME(R14)(%rsp)
	movq	%r15, FRAME(R15)(%rsp)
	.if \mitigations
	ENTRY_MITIGATIONS
	.endif
	movl	%eax, %esi			/* number */
	incq	PER_CPU_VAR(sysenter_count)
	DRAW_STACK_OFFSET			/* r10; rdx */
	movq	%rsp, %rbx
	xorl	%r8d, %r8d
	xorl	%r9d, %r9d
	xorl	%r11d, %r11d
	xorl	%r12d, %r12d
	xorl	%r13d, %r13d
	xorl	%r14d, %r14d
	xorl	%r15d, %r15d
	leaq	-PT_SIZE(%rsp), %rdi		/* regs */
	leaq	-PT_SIZE - 8 * 255(%rsp, %r10, 8), %rsp
	sti					/* effective after the call */
	KERNEL_CALL dispatch			/* runs the body */
	UNWIND_HINT_UNKNOWN_CALLER
	cli
	/* exit work: all that the kernel's own exit tests, and the tracepoint sys_exit */
	movl	TASK_ti_flags(%rbp), %edi
	andl	$EXIT_WORK, %edi
	orq	TASK_syscall_work(%rbp), %rdi
#ifdef TASK_unwind_mask
	orq	TASK_unwind_mask(%rbp), %rdi	/* 7.x: the kernel's exit resets it */
#endif
	jnz	.Lexit_work
	.if \mitigations
	EXIT_MITIGATIONS
	.endif
	/* clear what the body may have used, so that no kernel value leaks; rdi is already 0 */
	xorl	%esi, %esi
	xorl	%edx, %edx
	xorl	%r8d, %r8d
	xorl	%r9d, %r9d
	xorl	%r10d, %r10d
	movq	FRAME(R15)(%rbx), %r15
	movq	FRAME(R14)(%rbx), %r14
	movq	FRAME(R13)(%rbx), %r13
	movq	FRAME(R12)(%rbx), %r12
	movq	FRAME(RBP)(%rbx), %rbp
	movq	FRAME(RIP)(%rbx), %rcx		/* SYSRET: RIP */
	movq	FRAME(RSP)(%rbx), %rsp
	/*
	 * HAZARD: from here on rsp is the user's in kernel mode, whatever its value,
	 * as in the kernel's own exit. No instruction from here on uses rsp or can
	 * fault.
	 */
	movq	FRAME(RBX)(%rbx), %rbx
	.if \pti
	USER_CR3
	.endif
	movl	$USER_FLAGS, %r11d		/* SYSRET: flags */
	swapgs
#ifdef X86_FEATURE_CLEAR_CPU_BUF
	/* MDS and similar: any memory operand that is mapped will do */
	ALTERNATIVE "jmp .Lbuffers_done_\@", "", X86_FEATURE_CLEAR_CPU_BUF
	verw	.Lverw_selector(%rip)
.Lbuffers_done_\@:
#endif
	sysretq
	int3

.Lnot_plain_\name:
	UNWIND_HINT_UNKNOWN_CALLER
	cmpq	$FRAME_SS, FRAME(SS)(%rsp)
	je	.Lframe_stands_\name
	BUILD_FRAME
	jmp	.Lframe_built_\name
.Lframe_stands_\name:
	cmpq	$FRAME_SS, %rcx
	jne	.Lslow				/* the address, or syscall work */
	testb	$NUMBER_WIDE, sysenter_expected(, %rax, 8)
	jz	.Lslow				/* outside the fast table */
	movq	%r10, FRAME(R10)(%rsp)
	movq	%r8, FRAME(R8)(%rsp)
	movq	%r9, FRAME(R9)(%rsp)
	jmp	.Lplain_\name
SYM_CODE_END(\name)
.endm

	.section .rodata.sysenter_patch_sites, "a"
	.globl	sysenter_patch_sites, sysenter_patch_sites_end
sysenter_patch_sites:

	/*
	 * The entry has pages of its own: with PTI they are mapped in the user's page
	 * table, and nothing else must be mapped with them.
	 *
	 * HAZARD: a kprobe or a hardware breakpoint here would trap with the user's GS
	 * and stack. The kernel allows neither in a section of this name.
	 */
	.section .kprobes.text, "ax"
	.balign	4096

	/* sysenter_arch_check() chooses one of them, for this processor and this kernel */
	FAST_PATH sysenter_entry mitigations=0 pti=0
	FAST_PATH sysenter_entry_mitigated mitigations=1 pti=0
	FAST_PATH sysenter_entry_pti mitigations=1 pti=1

SYM_CODE_START_LOCAL(sysenter_shared)
/*
 * kernel_dispatch on a kernel without x64_sys_call (arch_amd64.c). rsi = number, below
 * SYSENTER_NR; rdi = pt_regs. The jump uses the kernel's own thunk, so the kernel chooses the
 * mitigation for the indirect branch.
 */
SYM_INNER_LABEL(sysenter_dispatch, SYM_L_GLOBAL)
	UNWIND_HINT_UNKNOWN_CALLER
	ANNOTATE_NOENDBR			/* called directly */
	movq	sysenter_calls(, %rsi, 8), %r11
	xorl	%esi, %esi
	JMP_NOSPEC r11
	int3

/* sysenter.h, kernel_call(): rdi = function; rsi, rdx, rcx = its arguments */
SYM_INNER_LABEL(sysenter_call_kernel, SYM_L_GLOBAL)
	UNWIND_HINT_FUNC
	ANNOTATE_NOENDBR			/* called directly */
	movq	%rdi, %rax
	movq	%rsi, %rdi
	movq	%rdx, %rsi
	movq	%rcx, %rdx
	RETPOLINE_JMP %rax hint=UNWIND_HINT_FUNC

/*
 * Not a marked call: on to the kernel's own entry, with every register, the flags and
 * the stack pointer as SYSENTER left them.
 */
.Lstock:
	UNWIND_HINT_UNKNOWN_CALLER
	popfq
	KERNEL_JMP entry_SYSENTER_compat

/*
 * A marked call with odd flags. It becomes a SYSCALL with the same number: build the
 * hardware frame, then join the kernel's entry behind the point where that is built.
 */
.Lodd_flags:
	UNWIND_HINT_UNKNOWN_CALLER
	swapgs
	ALTERNATIVE "jmp .Lodd_kernel_cr3", "", X86_FEATURE_PTI
	KERNEL_CR3 %rsp
.Lodd_kernel_cr3:
	movq	PERCPU_PATCHED, %rsp
	PATCH_BEFORE top_of_stack
	pushq	$__USER_DS			/* pt_regs->ss */
	pushq	%r11				/* pt_regs->sp */
	movq	PERCPU_PATCHED, %r11		/* end of the entry stack */
	PATCH_BEFORE tss_sp0
	movq	-8(%r11), %r11			/* caller's flags, see above */
	orq	$X86_EFLAGS_IF, %r11
	pushq	%r11				/* pt_regs->flags */
	pushq	$__USER_CS			/* pt_regs->cs */
	pushq	%rcx				/* pt_regs->ip */
	pushq	$X86_EFLAGS_FIXED		/* clean flags, as SYSCALL's mask leaves them */
	popfq
	andl	$(SYSENTER_NR - 1), %eax
	KERNEL_JMP entry_SYSCALL_64_after_hwframe

/*
 * A marked call that takes the kernel's slow path from the start. rsp = top of the stack,
 * IRQs off, rax = number. All other registers but rcx, rbp and r11 are the caller's. It
 * becomes a SYSCALL in the same way.
 */
.Lslow:
	UNWIND_HINT_UNKNOWN_CALLER
	movq	FRAME(RBP)(%rsp), %rbp
	movq	FRAME(RIP)(%rsp), %rcx
	movl	$USER_FLAGS, %r11d
	movq	$__USER_DS, FRAME(SS)(%rsp)	/* no longer a fast call */
	leaq	FRAME(RIP)(%rsp), %rsp
	KERNEL_JMP entry_SYSCALL_64_after_hwframe

/*
 * The body is done, rax = its result, and exit work is pending: a signal, a reschedule, a
 * tracepoint that was enabled during the body, a deferred stack trace, or VMSCAPE's barrier.
 * rbx = top of the stack, rbp = current, IRQs off. Complete pt_regs and go on to the kernel's
 * exit. That returns by the kernel's own IRET, and not to here.
 */
.Lexit_work:
	UNWIND_HINT_UNKNOWN_CALLER
	leaq	-PT_SIZE(%rbx), %rsp
	movq	%rax, PT_RAX(%rsp)
	movq	PT_RIP(%rsp), %rcx
	movq	%rcx, PT_RCX(%rsp)
	movq	$USER_FLAGS, PT_R11(%rsp)
#ifdef HAVE_TRACE_SYSCALL_EXIT
	/*
	 * This kernel has no function that does all of a call's exit work.
	 * irqentry_exit() leaves out what ptrace, audit and the tracepoint sys_exit
	 * want. ptrace and audit need nothing here: a call's entry or a tracer that
	 * has stopped the task turns them on, the entry found neither, and the task
	 * has not stopped since. The tracepoint is called here. It may be preempted,
	 * so it still counts as the body, and FRAME_SS stays in place.
	 */
	testb	$SYSCALL_TRACEPOINT, TASK_syscall_work(%rbp)
	jz	.Lno_sys_exit
	movq	%rsp, %rdi			/* regs */
	movq	%rax, %rsi			/* result */
	sti
	KERNEL_CALL trace_syscall_exit
	UNWIND_HINT_UNKNOWN_CALLER
	cli
.Lno_sys_exit:
	movq	$__USER_DS, PT_SS(%rsp)		/* no longer a fast call */
	movq	%rsp, %rdi			/* regs */
	xorl	%esi, %esi			/* irqentry_state_t, unused from user mode */
	KERNEL_PUSH return_to_usermode		/* return address: the kernel's IRET path */
	KERNEL_JMP irqentry_exit
#else
	movq	$__USER_DS, PT_SS(%rsp)		/* no longer a fast call */
	movq	%rsp, %rdi			/* regs */
	KERNEL_PUSH return_to_usermode		/* return address: the kernel's IRET path */
	sti					/* effective after the jmp: no task is
						 * preempted in this module's code */
	KERNEL_JMP syscall_exit_to_user_mode
#endif
SYM_CODE_END(sysenter_shared)

	.balign	8
SYM_CODE_START_LOCAL(sysenter_verw_selector)
.Lverw_selector:
	UNWIND_HINT_UNKNOWN_CALLER
	.word	__KERNEL_DS
	int3
SYM_CODE_END(sysenter_verw_selector)

SYM_INNER_LABEL(sysenter_entry_end, SYM_L_GLOBAL)
	ANNOTATE_NOENDBR			/* an address only: nothing jumps here */

#include "all_amd64.S"

	.section .rodata.sysenter_patch_sites, "a"
sysenter_patch_sites_end:
