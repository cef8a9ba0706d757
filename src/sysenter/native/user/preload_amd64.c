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
#include "fast_call_amd64.h"

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

	asm volatile(FAST_CALL_AMD64
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

/* Out of line, as all that is rare: what is common then needs no stack. */
static __attribute__((noinline, cold)) long fail(long result)
{
	errno = -result;
	return -1;
}

static inline __attribute__((always_inline)) long answer(long result)
{
	return (unsigned long)result > -4096UL ? fail(result) : result;
}

/* libc's own function, for a program with threads: see CANCELLATION_POINTS. */
typedef long (*libc_function)(long, ...);

/* Not 0: the path is the fast one and there is no other thread. */
static const char never, *alone = &never;

/* A function that is its system call. All arguments and results fit registers. */
#define PLAIN(name, number)								\
long name(long a, long b, long c, long d, long e, long f)				\
{											\
	return answer(path == FAST ? fast_call(number, a, b, c, d, e, f)		\
				   : stock_call(number, a, b, c, d, e, f));		\
}

/*
 * POSIX lets a thread be cancelled in these, and libc's own do what that takes.
 * Ours do not, so they serve programs of one thread, which only itself can cancel:
 * see pthread_cancel().
 * With each: what its system call has as 4th, 5th and 6th argument. HAZARD: send()
 * is sendto() with a fifth and a sixth, which no caller of send() has set.
 */
#define CANCELLATION_POINTS(X)				\
	X(pread, __NR_pread64, d, 0, 0)			\
	X(pread64, __NR_pread64, d, 0, 0)		\
	X(pwrite, __NR_pwrite64, d, 0, 0)		\
	X(pwrite64, __NR_pwrite64, d, 0, 0)		\
	X(readv, __NR_readv, 0, 0, 0)			\
	X(writev, __NR_writev, 0, 0, 0)			\
	X(recv, __NR_recvfrom, d, 0, 0)			\
	X(recvfrom, __NR_recvfrom, d, e, f)		\
	X(recvmsg, __NR_recvmsg, 0, 0, 0)		\
	X(send, __NR_sendto, d, 0, 0)			\
	X(sendto, __NR_sendto, d, e, f)			\
	X(sendmsg, __NR_sendmsg, 0, 0, 0)		\
	X(poll, __NR_poll, 0, 0, 0)			\
	X(fsync, __NR_fsync, 0, 0, 0)			\
	X(fdatasync, __NR_fdatasync, 0, 0, 0)

/*
 * libc's are looked up by the constructor and not at the first call: that may come in a
 * signal handler, or in the child of a fork, where dlsym() could wait for ever.
 * Before the constructor (another library's came first) it is the system call.
 */
#define DEFINE(name, number, fourth, fifth, sixth)					\
static libc_function libc_##name;							\
long name(long a, long b, long c, long d, long e, long f)				\
{											\
	if (*alone)									\
		return answer(fast_call(number, a, b, c, fourth, fifth, sixth));	\
	return libc_##name ? libc_##name(a, b, c, d, e, f)				\
			   : answer(stock_call(number, a, b, c, fourth, fifth, sixth));	\
}
CANCELLATION_POINTS(DEFINE)
#undef DEFINE

static libc_function libc_read, libc_write;
static int (*libc_pthread_cancel)(unsigned long thread);

static __attribute__((noinline)) long slow_read(long fd, char *buffer, size_t length)
{
	if (path == INT80 && length <= BOUNCE)
		return answer(int80_call(__NR_read, fd, buffer, length));
	return libc_read ? libc_read(fd, buffer, length)
			 : answer(stock_call(__NR_read, fd, (long)buffer, length, 0, 0, 0));
}

static __attribute__((noinline)) long slow_write(long fd, char *buffer, size_t length)
{
	if (path == INT80 && length <= BOUNCE)
		return answer(int80_call(__NR_write, fd, buffer, length));
	return libc_write ? libc_write(fd, buffer, length)
			  : answer(stock_call(__NR_write, fd, (long)buffer, length, 0, 0, 0));
}

long read(long fd, char *buffer, size_t length)
{
	if (*alone)
		return answer(fast_call3(__NR_read, fd, (long)buffer, length));
	return slow_read(fd, buffer, length);
}

long write(long fd, char *buffer, size_t length)
{
	if (*alone)
		return answer(fast_call3(__NR_write, fd, (long)buffer, length));
	return slow_write(fd, buffer, length);
}

static void find_libc(void)
{
#define FIND(name, ...) libc_##name = (libc_function)dlsym((void *)-1L /* RTLD_NEXT */, #name);
	CANCELLATION_POINTS(FIND)
	FIND(read)
	FIND(write)
#undef FIND
	libc_pthread_cancel = (int (*)(unsigned long))dlsym((void *)-1L, "pthread_cancel");
}

/* Whoever may be cancelled, itself too, goes libc's way from now on. */
int pthread_cancel(unsigned long thread)
{
	alone = &never;
	if (path == INT80)
		path = STOCK;
	return libc_pthread_cancel ? libc_pthread_cancel(thread) : ENOSYS;
}

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

	find_libc();
	if (!which || is(which, "fast")) {
		path = map_stub() ? FAST : STOCK;
		if (path == FAST && &__libc_single_threaded)
			alone = &__libc_single_threaded;
	} else if (is(which, "int80")) {
		/* PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT */
		bounce = mmap(NULL, BOUNCE, 1 | 2, 2 | 0x20 | 0x40, -1, 0);
		path = (intptr_t)bounce == -1 ? STOCK : INT80;
	}
}
