/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The boot sector of a disk that a BIOS starts (Bochs has no loader of its own). Reads the pieces of PIECES, a table
 * that build/disk.py writes, to where they are to stand in memory, and goes to the first one in 32-bit protected
 * mode, with the selectors that the kernel's boot protocol wants (Documentation/x86/boot.rst).
 *
 * A BIOS reads into the lowest MiB only: each block goes through BUFFER. What copies it up is real-mode code with
 * data segments of 4 GiB, whose limits were loaded in protected mode and stay when it is left (SDM 3A 9.9.2).
 */
#define BUFFER_SEGMENT	0x1000
#define BUFFER		0x10000
#define BLOCK		0x8000		/* bytes; build/disk.py's as well */
#define SECTOR		512
#define PIECE_LBA	0		/* of a piece in the table */
#define PIECE_TO	4
#define PIECE_BLOCKS	8		/* 0: no more pieces */
#define PIECE_SIZE	12
#define PIECES		0x7d80		/* 384 bytes into the sector */

	.code16
	.text
	.globl _start
_start:
	cli
	cld
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$_start, %sp
	movb	%dl, drive			/* the BIOS's number of this disk */
	inb	$0x92, %al			/* A20, by the chipset's port */
	orb	$2, %al
	andb	$0xfe, %al			/* bit 0 resets the machine */
	outb	%al, $0x92
	lgdtl	gdt_register
	movw	$PIECES, %bp

next_piece:
	movl	PIECE_LBA(%bp), %eax
	movl	%eax, packet_lba
	movl	PIECE_TO(%bp), %eax
	movl	%eax, to
	cmpl	$0, PIECE_BLOCKS(%bp)
	je	enter

next_block:
	pushw	%bp
	movb	$0x42, %ah			/* extended read */
	movb	drive, %dl
	movw	$packet, %si
	int	$0x13
	popw	%bp
	jc	unreadable
	/* HAZARD: the BIOS may have loaded segments, in protected mode too, and allowed interrupts. */
	cli
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	movw	$0x18, %bx
	movw	%bx, %ds
	movw	%bx, %es
	andb	$0xfe, %al
	movl	%eax, %cr0
	xorw	%bx, %bx
	movw	%bx, %ds
	movw	%bx, %es
	movl	$BUFFER, %esi
	movl	to, %edi
	movl	$BLOCK / 4, %ecx
	addr32 rep movsl
	movl	%edi, to
	addl	$BLOCK / SECTOR, packet_lba
	decl	PIECE_BLOCKS(%bp)
	jnz	next_block
	addw	$PIECE_SIZE, %bp
	jmp	next_piece

enter:
	movl	PIECES + PIECE_TO, %ebx
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmpl	$0x10, $protected
	.code32
protected:
	movl	$0x18, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss
	jmp	*%ebx

	.code16
unreadable:
	hlt
	jmp	unreadable

	.balign	8
gdt:	.quad	0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_register:
	.word	31
	.long	gdt
packet:						/* int 13h's disk address packet */
	.byte	16, 0
	.word	BLOCK / SECTOR
	.word	0, BUFFER_SEGMENT
packet_lba:
	.long	0, 0
to:	.long	0
drive:	.byte	0
