/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An ELF interpreter that runs before musl's loader on Linux 2.2, which has neither mmap2 nor
 * fstat64. dd names this program as its interpreter. It maps musl's loader, unmodified, and
 * has it make its system calls through `old_kernel', by AT_SYSINFO. `old_kernel' replaces
 * those two calls by ones that 2.2 has. (musl, ldso/dynlink.c: a kernel with a better entry
 * than int $0x80 says so by AT_SYSINFO.)
 */
#include <elf.h>
#include "../sys.h"

#define MUSL "/lib/libc.so"
#define PAGE 4096u
#define DOWN(address) ((address) & ~(PAGE - 1))
#define UP(address) DOWN((address) + PAGE - 1)

enum { NR_fstat = 108, NR_fstat64 = 197 };
enum { READ = 1, WRITE = 2, EXEC = 4 };
enum { PRIVATE = 2, FIXED = 0x10, ANONYMOUS = 0x20 };

/* Registers as in a system call. All but eax are preserved. */
__asm__(
	".globl _start\n"
	"_start:\n"
	"	pushl %esp\n"
	"	call before\n"
	"	popl %ecx\n"
	"	jmp *%eax\n"
	"old_kernel:\n"
	"	cmpl $192,%eax\n"		/* mmap2 */
	"	je 1f\n"
	"	cmpl $197,%eax\n"		/* fstat64 */
	"	je 2f\n"
	"	int $0x80\n"
	"	ret\n"
	"1:	pushl %ebx\n"
	"	pushl %ebp\n"			/* mmap takes its arguments in memory, */
	"	shll $12,(%esp)\n"		/* and the offset in bytes, not pages */
	"	pushl %edi\n"
	"	pushl %esi\n"
	"	pushl %edx\n"
	"	pushl %ecx\n"
	"	pushl %ebx\n"
	"	movl %esp,%ebx\n"
	"	movl $90,%eax\n"
	"	int $0x80\n"
	"	addl $24,%esp\n"
	"	popl %ebx\n"
	"	ret\n"
	"2:	pushl %edx\n"
	"	pushl %ecx\n"
	"	pushl %ecx\n"
	"	pushl %ebx\n"
	"	call fstat64\n"
	"	addl $8,%esp\n"
	"	popl %ecx\n"
	"	popl %edx\n"
	"	ret\n");

extern char old_kernel[];

/* include/asm-i386/stat.h: struct stat of 2.2, struct stat64 of 2.4 */
struct stat {
	unsigned short dev, pad1;
	u32 ino;
	unsigned short mode, nlink, uid, gid, rdev, pad2;
	u32 size, blksize, blocks, times[6], pad3[2];
};
struct stat64 {
	u64 dev;
	u32 pad1, ino32, mode, nlink, uid, gid;
	u64 rdev;
	u32 pad2;
	u64 size __attribute__((packed, aligned(4)));
	u32 blksize;
	u64 blocks __attribute__((packed, aligned(4)));
	u32 times[6];
	u64 ino;
} __attribute__((packed, aligned(4)));

__attribute__((used)) long fstat64(long fd, struct stat64 *to)
{
	struct stat now;
	long r = int80(NR_fstat, fd, (long)&now, 0);
	int i;

	if (r)
		return r;
	to->dev = now.dev;
	to->ino = to->ino32 = now.ino;
	to->mode = now.mode;
	to->nlink = now.nlink;
	to->uid = now.uid;
	to->gid = now.gid;
	to->rdev = now.rdev;
	to->size = now.size;
	to->blksize = now.blksize;
	to->blocks = now.blocks;
	for (i = 0; i < 6; i++)
		to->times[i] = now.times[i];
	return 0;
}

static u32 map(u32 address, u32 size, u32 protection, u32 flags, long fd,
	       u32 offset)
{
	u32 arguments[6] = { address, size, protection, flags, fd, offset };
	u32 at = int80(NR_mmap, (long)arguments, 0, 0);

	if (at > -PAGE)
		int80(NR_exit, 126, 0, 0);
	return at;
}

static u32 protection_of(const Elf32_Phdr *p)
{
	return (p->p_flags & PF_R ? READ : 0) | (p->p_flags & PF_W ? WRITE : 0)
		| (p->p_flags & PF_X ? EXEC : 0);
}

static void load_segment(const Elf32_Phdr *p, u32 base, long fd)
{
	u32 start = base + p->p_vaddr, end = start + p->p_filesz;
	u32 last = UP(start + p->p_memsz), rest = UP(end), zero;

	map(DOWN(start), end - DOWN(start), protection_of(p), PRIVATE | FIXED,
	    fd, DOWN(p->p_offset));
	if (!(p->p_flags & PF_W))
		return;
	for (zero = end; zero < rest; zero++)
		*(volatile char *)zero = 0;
	if (last > rest)
		map(rest, last - rest, protection_of(p),
		    PRIVATE | FIXED | ANONYMOUS, -1, 0);
}

/* stack: as the kernel has made it. Returns the address at which to go on. */
__attribute__((used)) u32 before(u32 *stack)
{
	union {
		Elf32_Ehdr elf;
		char bytes[1024];
	} head;
	const Elf32_Phdr *p;
	long fd = int80(NR_open, (long)MUSL, 0, 0);
	u32 base, end = 0;
	int i;

	if (int80(NR_read, fd, (long)&head, sizeof(head)) != sizeof(head))
		int80(NR_exit, 125, 0, 0);
	p = (const Elf32_Phdr *)(head.bytes + head.elf.e_phoff);
	for (i = 0; i < head.elf.e_phnum; i++)
		if (p[i].p_type == PT_LOAD)
			end = p[i].p_vaddr + p[i].p_memsz;
	base = map(0, UP(end), 0, PRIVATE | ANONYMOUS, -1, 0);
	for (i = 0; i < head.elf.e_phnum; i++)
		if (p[i].p_type == PT_LOAD)
			load_segment(&p[i], base, fd);
	int80(NR_close, fd, 0, 0);

	stack += 1 + *stack + 1;		/* argc, argv, NULL */
	while (*stack++)			/* environment */
		;
	for (; *stack != AT_NULL; stack += 2)
		if (*stack == AT_BASE) {
			stack[1] = base;
		} else if (*stack == AT_FLAGS) {	/* 0, and nobody reads it */
			stack[0] = AT_SYSINFO;
			stack[1] = (u32)old_kernel;
		}
	return base + head.elf.e_entry;
}
