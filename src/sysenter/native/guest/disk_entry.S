/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts a decompressed kernel, which disk_sector.S has read to memory, at its own entry KERNEL_ENTRY. An i386 kernel
 * is started by the 32-bit boot protocol, an amd64 kernel by the 64-bit one (Documentation/x86/boot.rst). Runs in flat
 * 32-bit protected mode, interrupts off. build/disk.py makes BOOT_PARAMS and, for amd64, PAGE_TABLES, which map the
 * first 4 GiB to themselves.
 */
	.code32
	.text
	.globl _start
_start:
	movl	$BOOT_PARAMS, %esi
	xorl	%ebp, %ebp
	xorl	%edi, %edi
	xorl	%ebx, %ebx
#ifdef PAGE_TABLES
	lgdt	gdt_register
	movl	%cr4, %eax
	orl	$0x20, %eax			/* CR4.PAE */
	movl	%eax, %cr4
	movl	$PAGE_TABLES, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx		/* EFER */
	rdmsr
	orl	$0x100, %eax			/* LME */
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000001, %eax		/* PG, PE: long mode is active */
	movl	%eax, %cr0
	ljmp	$0x10, $1f			/* __BOOT_CS */
	.code64
1:	movl	$KERNEL_ENTRY, %eax
	jmp	*%rax
	.balign	8
gdt:	.quad	0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_register:
	.word	31
	.long	gdt
#else
	movl	$KERNEL_ENTRY, %eax
	jmp	*%eax
#endif
