// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * libsysenter.so on amd64, for LD_PRELOAD: sends a program's calls by another
 * entry path.
 *
 *	LD_PRELOAD=libsysenter.so PROGRAM	the functions below
 *	SYSENTER_PATH=fast|int80|stock		which path; fast if not said
 *
 * An amd64 program's libc has SYSCALL instructions in it and no word to redirect
 * them by, so this library takes the place of libc's functions: those that are a
 * system call and nothing else, and that a program calls often. What libc calls
 * inside itself, as stdio does with its buffers, goes libc's way.
 *
 * Where the path is not to be had (no /dev/sysenter, a kernel without the module)
 * it changes nothing. Links with no library, so that it runs with whatever C
 * library the program has; what it needs of that it takes at run time.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <asm/unistd.h>
#include "abi.h"

extern char *getenv(const char *name);
extern void *mmap(void *, size_t, int, int, int, long);
extern int open(const char *, int, ...);
extern int close(int);
extern void *dlsym(void *, const char *);
/* glibc 2.32: no other thread, so nobody who could cancel this one */
extern char __libc_single_threaded __attribute__((weak));

static enum { STOCK, FAST, INT80 } path;

static inline __attribute__((always_inline)) long fast_call(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 asm("r10") = d;
	register long r8 asm("r8") = e;
	register long r9 asm("r9") = f;
	long result;

	asm volatile("movq %%rsp, %%r11\n\t"
		     "leaq 1f(%%rip), %%rcx\n\t"
		     "sysenter\n\t"
		     "syscall\n"
		     "1:"
		     : "=a"(result), "+D"(a), "+S"(b), "+d"(c), "+r"(r10), "+r"(r8), "+r"(r9)
		     : "0"(nr + SYSENTER_MARK_AMD64)
		     : "memory", "cc", "rcx", "r11");
	return result;
}

static inline __attribute__((always_inline)) long stock_call(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 asm("r10") = d;
	register long r8 asm("r8") = e;
	register long r9 asm("r9") = f;
	long result;

	asm volatile("syscall" : "=a"(result)
		     : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "memory", "cc", "rcx", "r11");
	return result;
}

/*
 * int $0x80 is the 32-bit programs' entry: read and write by it take 32 bits of
 * an address, so their data goes by a buffer below 4 GiB. For comparison only.
 */
#define BOUNCE	65536
static char *bounce;

static long int80_call(long nr, long a, char *buffer, size_t length)
{
	int result;

	if (nr == __NR_write)
		for (size_t i = 0; i < length; i++)
			bounce[i] = buffer[i];
	asm volatile("int $0x80" : "=a"(result)
		     : "0"(nr == __NR_write ? 4 : 3), "b"(a), "c"(bounce), "d"(length)
		     : "memory", "cc", "r8", "r9", "r10", "r11");
	if (nr == __NR_read)
		for (int i = 0; i < result; i++)
			buffer[i] = bounce[i];
	return result;
}

static inline __attribute__((always_inline)) long answer(long result)
{
	if ((unsigned long)result > -4096UL) {
		errno = -result;
		return -1;
	}
	return result;
}

/* libc's own function, for a program with threads: see CANCELLATION_POINT. */
typedef long (*libc_function)(long, ...);

static long by_libc(libc_function *function, const char *name, long a, long b, long c, long d, long e, long f)
{
	if (!*function)
		*function = (libc_function)dlsym((void *)-1L /* RTLD_NEXT */, name);
	return (*function)(a, b, c, d, e, f);
}

static inline int one_thread(void)
{
	return &__libc_single_threaded && __libc_single_threaded;
}

/* A function that is its system call. All arguments and results fit registers. */
#define PLAIN(name, number)								\
long name(long a, long b, long c, long d, long e, long f)				\
{											\
	return answer(path == FAST ? fast_call(number, a, b, c, d, e, f)		\
				   : stock_call(number, a, b, c, d, e, f));		\
}

/*
 * POSIX lets a thread be cancelled in these, and libc's own do what that takes.
 * Ours do not, so they serve programs of one thread, which nobody can cancel.
 */
#define CANCELLATION_POINT(name, number, fourth)					\
long name(long a, long b, long c, long d, long e, long f)				\
{											\
	static libc_function libc;							\
	if (path == FAST && one_thread())						\
		return answer(fast_call(number, a, b, c, fourth, e, f));		\
	return by_libc(&libc, #name, a, b, c, d, e, f);					\
}

long read(long fd, char *buffer, size_t length)
{
	static libc_function libc;

	if (path == FAST && one_thread())
		return answer(fast_call(__NR_read, fd, (long)buffer, length, 0, 0, 0));
	if (path == INT80 && length <= BOUNCE)
		return answer(int80_call(__NR_read, fd, buffer, length));
	return by_libc(&libc, "read", fd, (long)buffer, length, 0, 0, 0);
}

long write(long fd, char *buffer, size_t length)
{
	static libc_function libc;

	if (path == FAST && one_thread())
		return answer(fast_call(__NR_write, fd, (long)buffer, length, 0, 0, 0));
	if (path == INT80 && length <= BOUNCE)
		return answer(int80_call(__NR_write, fd, buffer, length));
	return by_libc(&libc, "write", fd, (long)buffer, length, 0, 0, 0);
}

CANCELLATION_POINT(pread, __NR_pread64, d)
CANCELLATION_POINT(pread64, __NR_pread64, d)
CANCELLATION_POINT(pwrite, __NR_pwrite64, d)
CANCELLATION_POINT(pwrite64, __NR_pwrite64, d)
CANCELLATION_POINT(readv, __NR_readv, d)
CANCELLATION_POINT(writev, __NR_writev, d)
CANCELLATION_POINT(recv, __NR_recvfrom, d)
CANCELLATION_POINT(recvfrom, __NR_recvfrom, d)
CANCELLATION_POINT(recvmsg, __NR_recvmsg, d)
CANCELLATION_POINT(send, __NR_sendto, d)
CANCELLATION_POINT(sendto, __NR_sendto, d)
CANCELLATION_POINT(sendmsg, __NR_sendmsg, d)
CANCELLATION_POINT(poll, __NR_poll, d)
CANCELLATION_POINT(fsync, __NR_fsync, d)
CANCELLATION_POINT(fdatasync, __NR_fdatasync, d)
PLAIN(lseek, __NR_lseek)
PLAIN(lseek64, __NR_lseek)
PLAIN(dup, __NR_dup)
PLAIN(dup2, __NR_dup2)
PLAIN(pipe, __NR_pipe)
PLAIN(access, __NR_access)
PLAIN(readlink, __NR_readlink)
PLAIN(ftruncate, __NR_ftruncate)
PLAIN(ftruncate64, __NR_ftruncate)
PLAIN(flock, __NR_flock)
PLAIN(madvise, __NR_madvise)
PLAIN(sched_yield, __NR_sched_yield)
PLAIN(getpid, __NR_getpid)
PLAIN(getppid, __NR_getppid)
PLAIN(getuid, __NR_getuid)
PLAIN(geteuid, __NR_geteuid)
PLAIN(getgid, __NR_getgid)
PLAIN(getegid, __NR_getegid)
PLAIN(getpgid, __NR_getpgid)
PLAIN(getsid, __NR_getsid)
PLAIN(getrusage, __NR_getrusage)
PLAIN(umask, __NR_umask)

static int is(const char *value, const char *word)
{
	while (*value && *value == *word)
		value++, word++;
	return !*value && !*word;
}

/*
 * The stub page. Only its being there counts: the module offers it, and the
 * mapping holds the module for as long as it lasts.
 */
static int map_stub(void)
{
	int saved = errno, fd = open("/dev/sysenter", 02000000 /* O_RDONLY | O_CLOEXEC */);
	int mapped = 0;

	if (fd >= 0) {
		mapped = (intptr_t)mmap(NULL, 4096, 1 | 4 /* PROT_READ | PROT_EXEC */,
					1 /* MAP_SHARED */, fd, 0) != -1;
		close(fd);
	}
	errno = saved;
	return mapped;
}

__attribute__((constructor)) static void choose_path(void)
{
	const char *which = getenv("SYSENTER_PATH");

	if (!which || is(which, "fast")) {
		path = map_stub() ? FAST : STOCK;
	} else if (is(which, "int80")) {
		/* PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT */
		bounce = mmap(NULL, BOUNCE, 1 | 2, 2 | 0x20 | 0x40, -1, 0);
		path = (intptr_t)bounce == -1 ? STOCK : INT80;
	}
}
