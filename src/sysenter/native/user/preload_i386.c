// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * libsysenter.so, for LD_PRELOAD: sends a program's calls by another entry path.
 *
 *	LD_PRELOAD=libsysenter.so PROGRAM		read and write, as Andy Polyakov's did
 *	SYSENTER_CALLS=all LD_PRELOAD=... PROGRAM	every call that libc makes by the word
 *							at %gs:0x10, threads and children too
 *	SYSENTER_PATH=fast|int80|stock			which path; fast if not said
 *
 * Where the path is not to be had (no /dev/sysenter, no room, a kernel without
 * the module) it changes nothing. Links with no library, so that it runs with
 * whatever C library the program has; what it needs of that it takes at run time.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <asm/unistd.h>
#include "abi.h"

extern ssize_t __read(int fd, void *buffer, size_t count);
extern ssize_t __write(int fd, const void *buffer, size_t count);
extern char *getenv(const char *name);
extern void *mmap(void *, size_t, int, int, int, off_t);
extern int open(const char *, int, ...);
extern int close(int);
extern void *dlsym(void *, const char *) __attribute__((weak));
/* glibc 2.32: no other thread, so nobody who could cancel this one but itself */
extern char __libc_single_threaded __attribute__((weak));

/* Reads its number and arguments from registers as int $0x80 does. */
typedef void (*entry_path)(void);

static entry_path path;		/* for numbers that carry `mark` */
static long mark;

static long call3(long number, long a, long b, long c)
{
	long result;

	asm volatile("call *%[path]"
		     : "=a"(result)
		     : "0"(number | mark), "b"(a), "c"(b), "d"(c), [path] "m"(path)
		     : "memory", "cc");
	if ((unsigned long)result > -4096UL) {
		errno = -result;
		return -1;
	}
	return result;
}

/*
 * libc's own read and write are cancellation points; these are not, so they
 * serve programs of one thread only. SYSENTER_CALLS=all has no such limit.
 */
static int ours(void)
{
	return path && &__libc_single_threaded && __libc_single_threaded;
}

ssize_t read(int fd, void *buffer, size_t count)
{
	return ours() ? call3(__NR_read, fd, (long)buffer, count) : __read(fd, buffer, count);
}

ssize_t write(int fd, const void *buffer, size_t count)
{
	return ours() ? call3(__NR_write, fd, (long)buffer, count) : __write(fd, buffer, count);
}

/* Whoever may be cancelled, itself too, has libc's own from now on. */
static int (*libc_pthread_cancel)(unsigned long thread);

int pthread_cancel(unsigned long thread)
{
	path = NULL;
	return libc_pthread_cancel ? libc_pthread_cancel(thread) : ENOSYS;
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
    "	.popsection");

static int is(const char *value, const char *word)
{
	while (*value && *value == *word)
		value++, word++;
	return !*value && !*word;
}

/* The stub page, or NULL. The mapping holds the module for as long as it lasts. */
static char *map_stub(void)
{
	int saved = errno, fd = open("/dev/sysenter", 02000000 /* O_RDONLY | O_CLOEXEC */);
	char *page = NULL;

	if (fd >= 0) {
		page = mmap(NULL, 4096, 1 | 4 /* PROT_READ | PROT_EXEC */, 1 /* MAP_SHARED */, fd, 0);
		if ((intptr_t)page == -1)
			page = NULL;
		close(fd);
	}
	errno = saved;
	return page;
}

__attribute__((constructor)) static void choose_path(void)
{
	const char *which = getenv("SYSENTER_PATH"), *calls = getenv("SYSENTER_CALLS");
	entry_path unmarked = NULL;

	if (dlsym)
		libc_pthread_cancel = (int (*)(unsigned long))dlsym((void *)-1L /* RTLD_NEXT */, "pthread_cancel");
	if (!which || is(which, "fast")) {
		char *page = map_stub();

		if (!page)
			return;
		unmarked = (entry_path)(page + SYSENTER_STUB_CALL);
		path = (entry_path)(page + SYSENTER_STUB_MARKED);
		mark = SYSENTER_MARK_I386;
	} else if (is(which, "int80")) {
		unmarked = path = int80_path;
	}
	/* AT_SYSINFO's place in the thread's header: libc calls through it */
	if (unmarked && calls && is(calls, "all"))
		asm volatile("movl %0, %%gs:0x10" : : "r"(unmarked) : "memory");
}
