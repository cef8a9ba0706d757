/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The boot sector of the disk from which a BIOS starts the guest in Bochs, which cannot load a kernel by itself. It
 * reads the pieces that the table PIECES lists to their places in memory; build/disk.py writes the table. Then it
 * jumps to the first piece in 32-bit protected mode, with the selectors of the kernel's boot protocol
 * (Documentation/x86/boot.rst).
 *
 * A BIOS reads into the lowest MiB only, so each block goes through BUFFER. Real-mode code copies it up. For that its
 * data segments have limits of 4 GiB: they were loaded in protected mode and stay when that is left (SDM 3A 9.9.2).
 */
#define BUFFER_SEGMENT	0x1000
#define BUFFER		0x10000
#define BLOCK		0x8000		/* bytes; the same in build/disk.py */
#define SECTOR		512
#define PIECE_LBA	0		/* offsets in an entry of the table */
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
	/* HAZARD: the BIOS may have loaded other segments, also in protected mode, and switched interrupts on. */
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
