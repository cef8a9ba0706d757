/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The entry and the exit of the fast path on i386 with page-table isolation. Both lead to
 * the code in entry_i386.S, which includes this file.
 *
 * While a program runs, CR3 points to the user's page table, which maps next to nothing
 * of the kernel. The trampoline, the page from sysenter_trampoline to
 * sysenter_trampoline_end, is mapped there, at an address among the CPU entry areas
 * (pti_i386.c). The rest of this module is not. So the code of the trampoline
 *  - accesses no memory but the entry stack and its own page, and
 *  - is entered and left by KERNEL_JMP only: kernel.c computes the distance of such a jump
 *    from the address at which the trampoline runs.
 *
 * HAZARD: NMI and #MC at CPL 0 while CR3 is the user's. The kernel's handlers recognise
 * the entry stack by its address, and return to it with the CR3 that they found
 * (SWITCH_TO_KERNEL_STACK, SAVE_ALL_NMI). On any other stack they expect the kernel's CR3.
 * So wherever CR3 is the user's, ESP points into the entry stack.
 */
#define PTI_USER_PGTABLE	(1 << 12)	/* of CR3: the table behind the kernel's */

	.balign	4096, 0xcc
SYM_CODE_START(sysenter_trampoline)
	/* the same steps as at sysenter_entry */
	pushfl					/* entry stack: caller's flags */
	LOOK_AT_SCOPE .Ltrampoline_stock
	testl	$ODD_FLAGS, (%esp)
	jnz	.Ltrampoline_odd_flags
	pushl	%ecx				/* entry stack: 2nd argument */
	LOOK_AT_SEGMENTS .Ltrampoline_odd_segments
	movl	%cr3, %ecx
	andl	$~PTI_USER_PGTABLE, %ecx
	movl	%ecx, %cr3
	KERNEL_JMP past_trampoline		/* ecx is still on the stack */

/* The kernel's own entry is mapped in the user's page table too. It does the rest. */
.Ltrampoline_odd_segments:
	popl	%ecx
.Ltrampoline_odd_flags:
	andl	$(SYSENTER_NR - 1), %eax
.Ltrampoline_stock:
	popfl
	KERNEL_JMP entry_SYSENTER_32

/*
 * The exit. The entry stack holds the caller's flags, eax the result, ecx and edx the
 * values for SYSEXIT. fs is the user's, IRQs are off.
 */
SYM_INNER_LABEL(sysenter_trampoline_exit, SYM_L_GLOBAL)
	movl	%cr3, %ebp
	orl	$PTI_USER_PGTABLE, %ebp
	movl	%ebp, %cr3
	movl	%eax, %ebp
	popl	%eax				/* caller's flags */
#ifdef X86_FEATURE_CLEAR_CPU_BUF
	/* MDS and similar: any memory operand that is mapped will do */
	ALTERNATIVE "jmp .Ltrampoline_cleared", "", X86_FEATURE_CLEAR_CPU_BUF
	.byte	0x2e, 0x0f, 0x00, 0x2d		/* verw %cs:sysenter_trampoline_selector */
	KERNEL_PATCH trampoline_selector 0
.Ltrampoline_cleared:
#endif
	SET_ARITHMETIC_FLAGS
	movl	%ebp, %eax
	movl	%ecx, %ebp			/* nothing of the kernel's in it */
	sti					/* effective after the next instruction */
	sysexit
	int3
SYM_CODE_END(sysenter_trampoline)
	.globl	sysenter_trampoline_selector
sysenter_trampoline_selector:
	.long	__USER_DS
	.balign	4096, 0xcc
	.globl	sysenter_trampoline_end
sysenter_trampoline_end:

/*
 * At load time a jump to here is written over sysenter_leaves. esp = frame, eax = result,
 * fs is the kernel's, IRQs are off.
 */
SYM_CODE_START(sysenter_leave_isolated)
	movl	%fs:cpu_tss_rw + TSS_SP0, %ebp	/* end of this CPU's entry stack */
	subl	$4, %ebp
	movl	PT_EFLAGS(%esp), %ecx
	movl	%ecx, (%ebp)			/* nothing uses it while interrupts are off */
	movl	PT_OLDESP(%esp), %ecx		/* SYSEXIT: ESP */
	movl	PT_EIP(%esp), %edx		/* SYSEXIT: EIP, the landing pad */
.Lload_fs_isolated:
	mov	PT_FS(%esp), %fs		/* #GP, #NP if the LDT changed: fixed up */
	/* HAZARD: from here on an NMI overwrites the frame; nothing reads the frame any more */
	movl	%ebp, %esp
	KERNEL_JMP trampoline_exit

.Lbad_fs_isolated:
	movl	$0, PT_FS(%esp)
	jmp	.Lload_fs_isolated
	_ASM_EXTABLE(.Lload_fs_isolated, .Lbad_fs_isolated)
SYM_CODE_END(sysenter_leave_isolated)

_ASM_NOKPROBE(sysenter_trampoline)
_ASM_NOKPROBE(sysenter_trampoline_exit)
_ASM_NOKPROBE(sysenter_leave_isolated)
