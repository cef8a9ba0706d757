/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts an i386 kernel that is already decompressed. This is the first segment of a
 * Multiboot image (Multiboot Specification 0.6.96). It does the work of the kernel's
 * real-mode setup code (Documentation/x86/boot.rst, "32-bit Boot Protocol"): it fills
 * boot_params with the command line, the initramfs and the memory map, loads flat
 * segments, and jumps to the kernel at KERNEL_ENTRY. Under TCG that saves the seconds
 * that the setup code and the decompressor take.
 */
#define BP_E820_ENTRIES		0x1e8	/* Documentation/x86/zero-page.rst */
#define BP_TYPE_OF_LOADER	0x210
#define BP_LOADFLAGS		0x211
#define BP_RAMDISK_IMAGE	0x218
#define BP_RAMDISK_SIZE		0x21c
#define BP_CMD_LINE_PTR		0x228
#define BP_E820_TABLE		0x2d0
#define MBI_CMDLINE		16
#define MBI_MODS_COUNT		20
#define MBI_MODS_ADDR		24
#define MBI_MMAP_LENGTH		44
#define MBI_MMAP_ADDR		48

	.code32
	.section .text
	.globl _start
multiboot_header:
	.long	0x1badb002			/* magic */
	.long	3				/* page-aligned modules, memory map */
	.long	-(0x1badb002 + 3)

_start:						/* ebx = Multiboot information */
	cli
	cld
	movl	$boot_params, %ebp
	movb	$0xff, BP_TYPE_OF_LOADER(%ebp)	/* a loader without a number of its own */
	orb	$1, BP_LOADFLAGS(%ebp)		/* LOADED_HIGH */
	movl	MBI_CMDLINE(%ebx), %eax
	movl	%eax, BP_CMD_LINE_PTR(%ebp)
	cmpl	$0, MBI_MODS_COUNT(%ebx)
	je	1f
	movl	MBI_MODS_ADDR(%ebx), %ecx
	movl	0(%ecx), %eax			/* start and end of the module */
	movl	4(%ecx), %edx
	subl	%eax, %edx
	movl	%eax, BP_RAMDISK_IMAGE(%ebp)
	movl	%edx, BP_RAMDISK_SIZE(%ebp)
1:
	/* Multiboot's map has the entries of the BIOS's map, each behind its size. */
	movl	MBI_MMAP_ADDR(%ebx), %esi
	movl	MBI_MMAP_LENGTH(%ebx), %edx
	addl	%esi, %edx
	leal	BP_E820_TABLE(%ebp), %edi
2:	cmpl	%edx, %esi
	jae	3f
	movl	(%esi), %eax			/* the size does not count itself */
	leal	4(%esi, %eax), %eax
	addl	$4, %esi
	movl	$5, %ecx			/* base, length: 8 bytes each; type */
	rep movsl
	movl	%eax, %esi
	incb	BP_E820_ENTRIES(%ebp)
	jmp	2b
3:
	lgdt	gdt_register
	ljmp	$0x10, $4f			/* __BOOT_CS */
4:	movl	$0x18, %eax			/* __BOOT_DS */
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss
	movl	%ebp, %esi			/* boot_params */
	xorl	%ebp, %ebp
	xorl	%edi, %edi
	xorl	%ebx, %ebx
	movl	$KERNEL_ENTRY, %eax
	jmp	*%eax

	.balign	8
gdt:
	.quad	0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_register:
	.word	31
	.long	gdt

	.balign	4096
boot_params:
	.incbin	"boot_params.bin"
