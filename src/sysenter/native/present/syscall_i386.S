/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The entry and the exit of the fast path for AMD's SYSCALL. Both lead to the code in
 * entry_i386.S, which includes this file.
 *
 * What SYSCALL does in legacy mode (AMD APM Vol. 3, SYSCALL): ECX = return
 * address, EIP = STAR[31:0], CS = STAR[47:32], SS = that + 8, both flat, CPL 0,
 * VM = IF = RF = 0. ESP, TF, NT, AC, DF, IOPL and the data segments stay as the
 * caller had them.
 *
 * Registers on entry (native/user/stub_syscall_i386.S):
 *	eax	system-call number; only the bits below SYSENTER_NR are used
 *	ebx	1st argument
 *	ecx	return address; ignored, because the call returns to the vDSO's landing pad
 *	edx	3rd argument	(user code has pushed it)
 *	esi	4th argument
 *	edi	5th argument
 *	ebp	2nd argument	(user code has pushed ecx, which is the same)
 *	esp	user stack: (esp) 6th argument, 4 edx, 8 ecx, 12 return address
 *
 * On return, by SYSRET: as in entry_i386.S, but ecx = edx = the landing pad.
 */

/*
 * One stub for each CPU, because no register and no segment leads to this CPU's
 * data. The stubs are SYSENTER_STUB_SIZE apart. syscall_i386.c writes the two patch
 * sites of each stub.
 *
 * HAZARD: an NMI, #DB or #MC before one of the first two instructions finds the
 * caller's ESP at CPL 0, and a caller can raise #DB at will, by TF. With an interrupt
 * gate the processor would push a frame to the address in that ESP. So these three
 * vectors go through task gates, whose task moves the call on to
 * sysenter_syscall_odd_flags (taskgate_i386.c).
 */
	.section .rodata.sysenter_stub_patch_sites, "a"
	.globl	sysenter_stub_patch_sites
sysenter_stub_patch_sites:
	.previous

	.p2align 6
SYM_CODE_START(sysenter_syscall_stubs)
.rept CONFIG_NR_CPUS
	.balign	SYSENTER_STUB_SIZE
	movl	%esp, %ecx
	.byte	0x2e, 0x8b, 0x25		/* movl %cs:TSS.sp1 of this CPU, %esp */
1:	.long	0
	/* HAZARD: NMI between these two: as at sysenter_past_trampoline */
	leal	-(PT_SIZE - 4)(%esp), %esp	/* not subl: the flags are still the caller's */
	pushfl					/* into pt_regs->bx for now; overwritten below */
	testl	$ODD_FLAGS, (%esp)
	jz	.Lsyscall_even_flags
	popfl
	.byte	0xbc				/* movl $end of this CPU's entry stack, %esp */
2:	.long	0
	jmp	sysenter_syscall_odd_flags
	.pushsection .rodata.sysenter_stub_patch_sites, "a"
	.long	1b, 2b
	.popsection
.endr
SYM_INNER_LABEL(sysenter_syscall_stubs_end, SYM_L_GLOBAL)
SYM_CODE_END(sysenter_syscall_stubs)

SYM_CODE_START(sysenter_syscall)
.Lsyscall_even_flags:				/* esp = frame, the flags in its first word */
	movl	%ecx, PT_OLDESP(%esp)
	movl	%ecx, PT_EBP(%esp)
	popl	%ecx
	pushl	%ebx				/* PT_EBX */
	orl	$X86_EFLAGS_IF, %ecx
	movl	%ecx, PT_EFLAGS(%esp)
	movl	%ebp, PT_ECX(%esp)
	movl	%edx, PT_EDX(%esp)
	movl	%esi, PT_ESI(%esp)
	movl	%edi, PT_EDI(%esp)
	/* mask: no number is out of range, not even speculatively (CVE-2017-5753) */
	andl	$(SYSENTER_NR - 1), %eax
	movl	%eax, PT_ORIG_EAX(%esp)
	mov	%fs, PT_FS(%esp)
	/* HAZARD: the caller's ds and es may be null or LDT selectors */
	mov	%cs:sysenter_user_ds, %ds
	mov	%ds:sysenter_user_ds, %es
	mov	%ds:sysenter_percpu, %fs
	movl	PT_OLDESP(%esp), %ebp
	movl	$SYSENTER_MARK_I386, %edx
	jmp	.Lentered

/* Make the call look like the vDSO's SYSENTER: the kernel's own entry cleans the flags. */
SYM_INNER_LABEL(sysenter_syscall_odd_flags, SYM_L_GLOBAL)
	pushfl					/* ANDL would change the flags */
	andl	$(SYSENTER_NR - 1), %eax
	popfl
	xchgl	%ebp, %ecx			/* ebp = the user's stack, ecx = 2nd argument */
	KERNEL_JMP entry_SYSENTER_32

/*
 * At load time this exit is written over the code at sysenter_leaves. In both exits the
 * load of fs is at the same offset, so one exception-table entry serves both. There is
 * no VERW, because AMD's processors do not have MDS. If the kernel wants VERW
 * nevertheless, syscall_i386.c refuses.
 */
SYM_INNER_LABEL(sysenter_leave_syscall, SYM_L_GLOBAL)
	movl	%eax, %edx			/* result */
	movl	PT_OLDESP(%esp), %ebp
	movl	PT_EIP(%esp), %ecx		/* SYSRET: EIP, the landing pad */
	movl	PT_EFLAGS(%esp), %eax
.Lleave_syscall_fs:
	mov	PT_FS(%esp), %fs
	SET_ARITHMETIC_FLAGS
	movl	%edx, %eax
	movl	%ecx, %edx			/* nothing of the kernel's in it */
	movl	%ebp, %esp
	/* HAZARD: NMI, #MC here: ESP is the caller's. The gates go back to sysenter_leaves */
SYM_INNER_LABEL(sysenter_leave_syscall_sysret, SYM_L_GLOBAL)
	sysret
SYM_INNER_LABEL(sysenter_leave_syscall_end, SYM_L_GLOBAL)
SYM_CODE_END(sysenter_syscall)

_ASM_NOKPROBE(sysenter_syscall_stubs)
_ASM_NOKPROBE(sysenter_syscall)
_ASM_NOKPROBE(sysenter_syscall_odd_flags)
_ASM_NOKPROBE(sysenter_leave_syscall)
_ASM_NOKPROBE(sysenter_leave_syscall_sysret)

	.pushsection .rodata
	.globl	sysenter_leave
	.balign	4
sysenter_leave:
	.long	sysenter_leaves, sysenter_left
	.long	.Lload_fs - sysenter_leaves, .Lleave_syscall_fs - sysenter_leave_syscall
	.popsection
