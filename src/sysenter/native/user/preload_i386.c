// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * libsysenter.so on i386, for LD_PRELOAD: sends a program's calls by another entry path.
 *
 *	LD_PRELOAD=libsysenter.so PROGRAM		read and write, as Andy Polyakov's did
 *	SYSENTER_CALLS=all LD_PRELOAD=... PROGRAM	every call that libc makes by the word
 *							at %gs:0x10, threads and children too
 *	SYSENTER_PATH=fast|int80|stock			which path; default: fast
 *
 * If another preload library behind this one defines read or write, that function is called,
 * as it would be without this library. If the path cannot be used, this library changes
 * nothing: no /dev/sysenter, no memory, a kernel without the module, or an emulator that cannot
 * make such a call (trial.h). It links with no library and requires no function of a C library.
 * So it runs with the C library that the program has: glibc of any age, or musl (next.h).
 */
#define _GNU_SOURCE	/* dl_iterate_phdr */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <asm/unistd.h>
#include "abi.h"
#include "next.h"
#include "trial.h"

extern char *getenv(const char *name) __attribute__((weak));
/* glibc 2.32: true while there is one thread, so that only itself could cancel it */
extern char __libc_single_threaded __attribute__((weak));
extern const char *gnu_get_libc_version(void) __attribute__((weak));

/* Takes its number and arguments in registers, as int $0x80 does. */
typedef void (*entry_path)(void);

static entry_path path;		/* for numbers that carry `mark` */
static long mark;

static long path_call(long number, long a, long b, long c)
{
	long result;

	asm volatile("call *%[path]"
		     : "=a"(result)
		     : "0"(number | mark), "b"(a), "c"(b), "d"(c), [path] "m"(path)
		     : "memory", "cc");
	return result;
}

static long int80_call(long number, long a, long b, long c, long d)
{
	long result;

	asm volatile("int $0x80"
		     : "=a"(result)
		     : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d)
		     : "memory", "cc");
	return result;
}

/* mmap2 of a page: PROT_READ | PROT_EXEC, MAP_SHARED. ebp has the offset. */
static long map_stub(long fd)
{
	long page;

	asm volatile("pushl %%ebp\n\txorl %%ebp, %%ebp\n\tint $0x80\n\tpopl %%ebp"
		     : "=a"(page)
		     : "0"(__NR_mmap2), "b"(0), "c"(4096), "d"(1 | 4), "S"(1), "D"(fd)
		     : "memory", "cc");
	return page;
}

static long answer(long result)
{
	if ((unsigned long)result > -4096UL) {
		if (__errno_location)
			errno = -result;
		return -1;
	}
	return result;
}

enum { READ, WRITE, PTHREAD_CANCEL, PTHREAD_CREATE, THRD_CREATE, FUNCTIONS };

/* The constructor looks them up, or a call that another library's constructor makes earlier. */
static struct next next[FUNCTIONS] = {
	[READ] = { .name = "read" },
	[WRITE] = { .name = "write" },
	[PTHREAD_CANCEL] = { .name = "pthread_cancel" },
	[PTHREAD_CREATE] = { .name = "pthread_create" },
	[THRD_CREATE] = { .name = "thrd_create" },
};

/*
 * libc's own read and write are cancellation points and these are not. So they serve only a
 * process with one thread. SYSENTER_CALLS=all has no such limit. `fast' points to a byte: if
 * it is not 0, calls take the path.
 *
 * Is there one thread only? These are for C libraries without __libc_single_threaded. musl:
 * `alone' is 1 until pthread_create() is called, see there. glibc before 2.32: its own read()
 * tests multiple_threads in the thread's header (tcbhead_t, part of its ABI). `by_header'
 * says to test that.
 */
static const char never;
static const char *fast[] = { [READ] = &never, [WRITE] = &never };
static char alone = 1, by_header, is_set_up;
static void set_up(void);

typedef long (*function)(long, long, long, long);

static __attribute__((noinline)) long undecided(int at, long number, long a, long b, long c)
{
	int multiple_threads;

	if (!is_set_up) {
		set_up();
		if (*fast[at])
			return answer(path_call(number, a, b, c));
	}
	if (by_header && path && next[at].libcs) {
		asm volatile("movl %%gs:0xc, %0" : "=r"(multiple_threads));
		if (!multiple_threads)
			return answer(path_call(number, a, b, c));
	}
	if (next[at].address)
		return ((function)next[at].address)(a, b, c, 0);
	return answer(int80_call(number, a, b, c, 0));
}

long read(int fd, void *buffer, size_t count)
{
	if (*fast[READ])
		return answer(path_call(__NR_read, fd, (long)buffer, count));
	return undecided(READ, __NR_read, fd, (long)buffer, count);
}

long write(int fd, const void *buffer, size_t count)
{
	if (*fast[WRITE])
		return answer(path_call(__NR_write, fd, (long)buffer, count));
	return undecided(WRITE, __NR_write, fd, (long)buffer, count);
}

/* Look it up again: before glibc 2.34 libpthread may have been loaded in the meantime. */
static function next_now(int at)
{
	if (!next[at].address)
		find_next(&next[at], 1);
	return (function)next[at].address;
}

/* From now on a thread may be cancelled, or cancels itself. So all calls go to libc's own. */
int pthread_cancel(unsigned long thread)
{
	path = NULL;
	fast[READ] = fast[WRITE] = &never;
	return next_now(PTHREAD_CANCEL) ? next_now(PTHREAD_CANCEL)(thread, 0, 0, 0) : ENOSYS;
}

/*
 * These two are for musl, which has no variable that says whether there are threads. They have
 * a version of their own (preload.map). Programs for glibc ask for version GLIBC_... and do
 * not get these, so a program without libpthread does not mistake them for libpthread's.
 * musl's loader ignores versions.
 */
int pthread_create(long thread, long attributes, long start, long argument)
{
	alone = 0;
	return next_now(PTHREAD_CREATE) ? next_now(PTHREAD_CREATE)(thread, attributes, start, argument) : EAGAIN;
}

int thrd_create(long thread, long start, long argument)
{
	alone = 0;
	return next_now(THRD_CREATE) ? next_now(THRD_CREATE)(thread, start, argument, 0) : 2 /* thrd_error */;
}

extern void int80_path(void) __attribute__((visibility("hidden")));
asm(".pushsection .text\n"
    "	.hidden int80_path\n"
    "	.type int80_path, @function\n"
    "int80_path:\n"
    "	.cfi_startproc\n"
    "	int $0x80\n"
    "	ret\n"
    "	.cfi_endproc\n"
    "	.hidden trial_restorer\n"
    "	.type trial_restorer, @function\n"
    "trial_restorer:\n"
    "	movl $173, %eax\n"	/* rt_sigreturn */
    "	int $0x80\n"
    "	.popsection");

static long trial_call(long nr, long a, long b, long c, long d)
{
	return int80_call(nr, a, b, c, d);
}

/* Return from a stub that has pushed its three registers (stub_i386.S, stub_syscall_i386.S). */
static void trial_skip(struct sigcontext *registers)
{
	const unsigned char *at = (const unsigned char *)registers->eip;
	const unsigned int *stack = (const unsigned int *)registers->esp;

	if (at[0] == 0x0f && (at[1] == 0x34 || at[1] == 0x05)) {
		registers->ebp = stack[0];
		registers->edx = stack[1];
		registers->ecx = stack[2];
		registers->eip = stack[3];
		registers->esp += 16;
		registers->eax = -ENOSYS;
	}
}

static long fast_close(long fd)
{
	return path_call(__NR_close, fd, 0, 0);
}

/* The stub page, or NULL. The mapping holds the module for as long as it lasts. */
static char *working_stub(void)
{
	long fd, page;

	if (under_valgrind())
		return NULL;
	/* by calls that the loader makes too: a filter of seccomp's may end who makes others */
	fd = int80_call(__NR_openat, -100 /* AT_FDCWD */, (long)"/dev/sysenter", 02000000 /* O_RDONLY | O_CLOEXEC */, 0);
	if (fd < 0)
		return NULL;
	page = map_stub(fd);
	if ((unsigned long)page <= -4096UL) {
		path = (entry_path)(page + SYSENTER_STUB_MARKED);
		mark = SYSENTER_MARK_I386;
		if (trial(fast_close, fd))
			return (char *)page;
		path = NULL;
		mark = 0;
		int80_call(__NR_munmap, page, 4096, 0, 0);
	}
	int80_call(__NR_close, fd, 0, 0, 0);
	return NULL;
}

static void set_up(void)
{
	const char *which = getenv ? getenv("SYSENTER_PATH") : NULL;
	const char *calls = getenv ? getenv("SYSENTER_CALLS") : NULL;
	const char *one_thread = &alone;
	entry_path unmarked = NULL;

	is_set_up = 1;
	find_next(next, FUNCTIONS);
	if (!which || same_string(which, "fast")) {
		char *page = working_stub();

		if (page)
			unmarked = (entry_path)(page + SYSENTER_STUB_CALL);
	} else if (same_string(which, "int80")) {
		unmarked = path = int80_path;
	}
	if (&__libc_single_threaded)
		one_thread = &__libc_single_threaded;
	else if (gnu_get_libc_version)
		by_header = 1;
	for (int at = READ; at <= WRITE; at++)
		if (path && next[at].libcs && !by_header)
			fast[at] = one_thread;
	/* AT_SYSINFO's word in the thread's header: glibc and musl call through it */
	if (unmarked && calls && same_string(calls, "all"))
		asm volatile("movl %0, %%gs:0x10" : : "r"(unmarked) : "memory");
}

__attribute__((constructor)) static void constructor(void)
{
	if (!is_set_up)
		set_up();
}
