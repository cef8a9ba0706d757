/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A Multiboot program (Multiboot Specification 0.6.96) that runs without a kernel. privileged.c
 * sets a state of the processor, has it execute a few instructions, and prints the state that
 * results. This file is the part that cannot be written in C.
 *
 * All exceptions, the interrupt 0x40, and `int $0x30', which ends a case, come to `common'. None
 * of them returns. Segments are flat, paging is off.
 */
#include "privileged.h"

	.code32
	.section .note.GNU-stack, ""
	.text
	.balign	4			/* within the file's first 8 KiB */
	.long	0x1badb002, 0, -0x1badb002

	.globl	_start, enter, vectors, landing
_start:						/* eax, ebx: the loader's */
	cli
	cld
	movl	$kernel_stack + STACK_BYTES, %esp
	lgdt	gdt_register
	ljmp	$KERNEL_CS, $1f
1:	movl	$KERNEL_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs
	movl	%eax, %gs
	call	privileged_main
	lidt	nothing				/* then a triple fault: with -no-reboot it ends the machine */
	ud2

/*
 * void enter(const struct state *): go to that state, by IRET. Returns when an event has come.
 * With VM in eflags, IRET pops the data segments too. To the same ring it pops no stack pointer,
 * so that is loaded before.
 */
enter:
	pushal
	movl	%esp, resume_esp
	movl	36(%esp), %ebp
	testl	$EFLAGS_VM, S_EFLAGS(%ebp)
	je	1f
	pushl	S_GS(%ebp)
	pushl	S_FS(%ebp)
	pushl	S_DS(%ebp)
	pushl	S_ES(%ebp)
	movl	$KERNEL_DS, %ebx		/* until IRET pops what a real mode has */
	jmp	2f
1:	movl	S_DS(%ebp), %ebx
	mov	S_ES(%ebp), %es
	mov	S_FS(%ebp), %fs
	mov	S_GS(%ebp), %gs
	testl	$3, S_CS(%ebp)
	jne	2f
	movl	S_ESP(%ebp), %esp
	jmp	3f
2:	pushl	S_SS(%ebp)
	pushl	S_ESP(%ebp)
3:	pushl	S_EFLAGS(%ebp)
	pushl	S_CS(%ebp)
	pushl	S_EIP(%ebp)
	pushl	%ebx
	movl	S_EAX(%ebp), %eax
	movl	S_ECX(%ebp), %ecx
	movl	S_EDX(%ebp), %edx
	movl	S_EBX(%ebp), %ebx
	movl	S_ESI(%ebp), %esi
	movl	S_EDI(%ebp), %edi
	movl	S_EBP(%ebp), %ebp
	popl	%ds
	iret

landing:					/* the target of SYSENTER and SYSEXIT */
	int	$END_OF_CASE

	.macro	VECTOR number
	.balign	16
	.if	!(\number == 8 || (\number >= 10 && \number <= 14) || \number == 17)
	pushl	$0				/* this one has no error code */
	.endif
	pushl	$\number
	jmp	common
	.endm

	.altmacro
	.balign	16
vectors:
	.set	number, 0
	.rept	VECTORS
	VECTOR	%number
	.set	number, number + 1
	.endr
	.noaltmacro

common:						/* struct event, from its end */
	pushal
	movl	%ss, %eax
	pushl	%eax
	pushl	%gs
	pushl	%fs
	pushl	%es
	pushl	%ds
	movl	$KERNEL_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%esp, %eax
	cld
	pushl	$2
	popfl
	pushl	%eax
	call	event
	movl	$KERNEL_DS, %eax
	movl	%eax, %ss
	movl	resume_esp, %esp
	popal
	ret

	.data
	.balign	8
gdt:
	.quad	0, 0
	.quad	0x00cf9b000000ffff		/* KERNEL_CS */
	.quad	0x00cf93000000ffff		/* KERNEL_DS */
	.quad	0x00cffb000000ffff		/* USER_CS */
	.quad	0x00cff3000000ffff		/* USER_DS */
	.globl	gdt_tss
gdt_tss:
	.quad	0				/* written by C */
	.quad	0x00cff3000000ffff		/* OTHER_DS */
gdt_register:
	.word	. - gdt - 1
	.long	gdt
nothing:
	.word	0
	.long	0

	.bss
	.balign	16
kernel_stack:
	.skip	STACK_BYTES
resume_esp:
	.skip	4
