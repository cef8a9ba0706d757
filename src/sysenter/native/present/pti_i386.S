/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way in and the way out of the fast entry on i386 with page-table isolation, around
 * what is in entry_i386.S, which includes this.
 *
 * A program runs on a page table that has next to nothing of the kernel. The page
 * between sysenter_trampoline and sysenter_trampoline_end is in it, at an address among the CPU
 * entry areas (pti_i386.c); the rest of this module is not. So what stands in there
 *  - touches no memory but the entry stack and the page itself, and
 *  - is left and entered by KERNEL_JMP alone, whose distance is from where it runs.
 *
 * HAZARD: NMI and #MC at CPL 0 on the user's page table. The kernel's handlers know
 * the entry stack by its address, and put the page table back as they found it
 * (SWITCH_TO_KERNEL_STACK, SAVE_ALL_NMI): so wherever CR3 is the user's, ESP is in the
 * entry stack.
 */
#define PTI_USER_PGTABLE	(1 << 12)	/* of CR3: the two tables are neighbours */

	.balign	4096, 0xcc
SYM_CODE_START(sysenter_trampoline)
	/* as at sysenter_entry */
	pushfl
	LOOK_AT_SCOPE .Ltrampoline_stock
	testl	$ODD_FLAGS, (%esp)
	jnz	.Ltrampoline_odd_flags
	pushl	%ecx
	LOOK_AT_SEGMENTS .Ltrampoline_odd_segments
	movl	%cr3, %ecx
	andl	$~PTI_USER_PGTABLE, %ecx
	movl	%ecx, %cr3
	KERNEL_JMP past_trampoline		/* ecx on the stack still */

/* The kernel's own entry is in the user's page table as well, and does the rest. */
.Ltrampoline_odd_segments:
	popl	%ecx
.Ltrampoline_odd_flags:
	andl	$(SYSENTER_NR - 1), %eax
.Ltrampoline_stock:
	popfl
	KERNEL_JMP entry_SYSENTER_32

/*
 * Out: on the entry stack the caller's flags, eax = result, ecx and edx as SYSEXIT wants
 * them, fs the user's, IRQs off.
 */
SYM_INNER_LABEL(sysenter_trampoline_exit, SYM_L_GLOBAL)
	movl	%cr3, %ebp
	orl	$PTI_USER_PGTABLE, %ebp
	movl	%ebp, %cr3
	movl	%eax, %ebp
	popl	%eax
#ifdef X86_FEATURE_CLEAR_CPU_BUF
	/* MDS and its kin: any memory operand that is mapped will do */
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
 * A jump to here is written over sysenter_leaves at load time. esp = frame, IRQs off,
 * eax = result, the kernel's fs.
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
	/* HAZARD: NMI from here on overwrites the frame, which nobody needs any more */
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
