/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libsysenter.so for Linux 2.2 and 2.4: with LD_PRELOAD it stands before the C
 * library's read, write and getppid and makes them by SYSENTER. Where the
 * module is not loaded they go by int $0x80, as ever.
 *
 * Whether it is loaded is asked once, at a process's first call: unloading it
 * under a process that has asked ends that process with SIGSEGV.
 *
 * No header, so that any compiler from egcs on takes it with any C library.
 */
extern int *__errno_location(void);

long sysenter_call_int80(long number, long a, long b, long c);
long sysenter_call_fast(long number, long a, long b, long c);

/*
 * The stub, position-independent: return address at -4(%ebp), 6th argument
 * (here %ebp itself) at (%ebp), int $0x80 before the return label for calls
 * that the kernel restarts. ebx is saved, ecx and edx are the caller's to lose.
 */
__asm__(
	"	.text\n"
	"	.align 16\n"
	"	.globl sysenter_call_fast\n"
	"	.type sysenter_call_fast,@function\n"
	"sysenter_call_fast:\n"
	"	pushl %ebx\n"
	"	movl 8(%esp),%eax\n"
	"	movl 12(%esp),%ebx\n"
	"	movl 16(%esp),%ecx\n"
	"	movl 20(%esp),%edx\n"
	"	pushl %ebp\n"
	"	movl %esp,%ebp\n"
	"	call 2f\n"
	"2:	addl $1f-2b,(%esp)\n"
	"	.byte 0x0f,0x34\n"		/* sysenter */
	"	int $0x80\n"
	"1:	popl %ebp\n"
	"	popl %ebx\n"
	"	ret\n"
	"	.align 16\n"
	"	.globl sysenter_call_int80\n"
	"	.type sysenter_call_int80,@function\n"
	"sysenter_call_int80:\n"
	"	pushl %ebx\n"
	"	movl 8(%esp),%eax\n"
	"	movl 12(%esp),%ebx\n"
	"	movl 16(%esp),%ecx\n"
	"	movl 20(%esp),%edx\n"
	"	int $0x80\n"
	"	popl %ebx\n"
	"	ret\n");

#define NR_read		3
#define NR_write	4
#define NR_open		5
#define NR_close	6
#define NR_getppid	64

static long (*call)(long, long, long, long);

static long ask(long number, long a, long b, long c)
{
	long fd = sysenter_call_int80(NR_open, (long)"/proc/sysenter", 0, 0);

	call = sysenter_call_int80;
	if (fd >= 0) {
		sysenter_call_int80(NR_close, fd, 0, 0);
		call = sysenter_call_fast;
	}
	return call(number, a, b, c);
}

static long (*call)(long, long, long, long) = ask;

static long result(long r)
{
	if ((unsigned long)r < (unsigned long)-4095)
		return r;
	*__errno_location() = -r;
	return -1;
}

long read(int fd, void *buffer, unsigned long size)
{
	return result(call(NR_read, fd, (long)buffer, size));
}

long write(int fd, const void *buffer, unsigned long size)
{
	return result(call(NR_write, fd, (long)buffer, size));
}

int getppid(void)
{
	return call(NR_getppid, 0, 0, 0);
}
