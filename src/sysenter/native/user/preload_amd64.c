// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * libsysenter.so on amd64, for LD_PRELOAD: sends a program's calls by another entry path.
 *
 *	LD_PRELOAD=libsysenter.so PROGRAM	the functions below
 *	SYSENTER_PATH=fast|int80|stock		which path; default: fast
 *
 * On amd64 the SYSCALL instructions are inside libc, and no word in memory redirects them. So
 * this library replaces functions of libc: those that are a system call and nothing else, and
 * that programs call often. Calls that libc makes inside itself, as stdio does for its
 * buffers, go libc's way. If another preload library behind this one defines such a function
 * (fakeroot's getuid, libeatmydata's fsync), that function is called, as it would be without
 * this library.
 *
 * If the path cannot be used, this library changes nothing: no /dev/sysenter, a kernel without
 * the module, or an emulator that cannot make such a call (trial.h). It links with no library
 * and requires no function of a C library. So it runs with the C library that the program has:
 * glibc of any age, or musl (next.h).
 */
#define _GNU_SOURCE	/* dl_iterate_phdr */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <asm/unistd.h>
#include "fast_call_amd64.h"
#include "next.h"
#include "trial.h"

extern char *getenv(const char *name) __attribute__((weak));
/* glibc 2.32: true while there is one thread, so that no other can cancel this one */
extern char __libc_single_threaded __attribute__((weak));
extern const char *gnu_get_libc_version(void) __attribute__((weak));

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
 * int $0x80 is the entry of 32-bit programs. By it, read and write take only 32 bits of an
 * address, so their data goes through a buffer below 4 GiB. This path is for comparison only.
 *
 * HAZARD: there is one buffer. A second thread, or a signal handler in the midst of a call, would
 * put its own data there. So `bouncing' says that the buffer is taken, and who finds it taken goes
 * libc's way. A handler that leaves a call by longjmp() leaves it taken for good.
 */
#define BOUNCE	65536
static char *bounce;
static char bouncing;

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

/* Rare cases are out of line, so that the common case needs no stack frame. */
static __attribute__((noinline, cold)) long fail(long result)
{
	if (__errno_location)
		errno = -result;
	return -1;
}

static inline __attribute__((always_inline)) long answer(long result)
{
	return (unsigned long)result > -4096UL ? fail(result) : result;
}

/*
 * Cancellation points. POSIX lets a thread be cancelled in these functions, and libc's own do
 * what that needs. Ours do not. So they serve only a process with one thread, which no other
 * thread can cancel. See pthread_cancel() for a thread that cancels itself.
 */
#define CANCELLATION_POINTS(X)	\
	X(read, __NR_read)	\
	X(write, __NR_write)	\
	X(readv, __NR_readv)	\
	X(writev, __NR_writev)	\
	X(recvmsg, __NR_recvmsg) \
	X(sendmsg, __NR_sendmsg) \
	X(poll, __NR_poll)	\
	X(fsync, __NR_fsync)	\
	X(fdatasync, __NR_fdatasync)

/*
 * The same with more than three arguments. Behind each name: the 4th, 5th and 6th argument of
 * its system call. HAZARD: send() is sendto() with a fifth and a sixth argument, and a caller
 * of send() has not set these registers.
 */
#define LONG_CANCELLATION_POINTS(X)			\
	X(pread, __NR_pread64, d, 0, 0)			\
	X(pread64, __NR_pread64, d, 0, 0)		\
	X(pwrite, __NR_pwrite64, d, 0, 0)		\
	X(pwrite64, __NR_pwrite64, d, 0, 0)		\
	X(recv, __NR_recvfrom, d, 0, 0)			\
	X(recvfrom, __NR_recvfrom, d, e, f)		\
	X(send, __NR_sendto, d, 0, 0)			\
	X(sendto, __NR_sendto, d, e, f)

/* Functions that are just their system call. All arguments and results fit into registers. */
#define PLAIN(X)			\
	X(lseek, __NR_lseek)		\
	X(lseek64, __NR_lseek)		\
	X(dup, __NR_dup)		\
	X(dup2, __NR_dup2)		\
	X(pipe, __NR_pipe)		\
	X(access, __NR_access)		\
	X(readlink, __NR_readlink)	\
	X(ftruncate, __NR_ftruncate)	\
	X(ftruncate64, __NR_ftruncate)	\
	X(flock, __NR_flock)		\
	X(madvise, __NR_madvise)	\
	X(sched_yield, __NR_sched_yield) \
	X(getpid, __NR_getpid)		\
	X(getppid, __NR_getppid)	\
	X(getuid, __NR_getuid)		\
	X(geteuid, __NR_geteuid)	\
	X(getgid, __NR_getgid)		\
	X(getegid, __NR_getegid)	\
	X(getpgid, __NR_getpgid)	\
	X(getsid, __NR_getsid)		\
	X(getrusage, __NR_getrusage)	\
	X(umask, __NR_umask)

enum {
#define INDEX(name, ...) AT_##name,
	CANCELLATION_POINTS(INDEX)
	LONG_CANCELLATION_POINTS(INDEX)
	FIRST_PLAIN, BEFORE_PLAIN = FIRST_PLAIN - 1, /* so that the next gets the same number */
	PLAIN(INDEX)
	AFTER_PLAIN, PTHREAD_CANCEL = AFTER_PLAIN, PTHREAD_CREATE, THRD_CREATE,
	FUNCTIONS
#undef INDEX
};

/*
 * The constructor looks the functions up. The first call is too late: it may come in a signal
 * handler, or in the child of a fork, where the dynamic loader's lock could be held for ever.
 * Only a call before the constructor, by another library's constructor, looks them up itself.
 */
static struct next next[FUNCTIONS] = {
#define NAME(which, ...) [AT_##which] = { .name = #which },
	CANCELLATION_POINTS(NAME)
	LONG_CANCELLATION_POINTS(NAME)
	PLAIN(NAME)
	[PTHREAD_CANCEL] = { .name = "pthread_cancel" },
	[PTHREAD_CREATE] = { .name = "pthread_create" },
	[THRD_CREATE] = { .name = "thrd_create" },
#undef NAME
};

typedef long (*function)(long, long, long, long, long, long);

/* For each function, `fast' points to a byte: if it is not 0, calls take the fast path. */
static const char never = 0, always = 1;
static const char *fast[AFTER_PLAIN] = { [0 ... AFTER_PLAIN - 1] = &never };
/* Otherwise the function to call instead, or NULL if that is not decided (undecided()). */
static function direct[AFTER_PLAIN];

/*
 * Is there one thread only? These are for C libraries without __libc_single_threaded. musl:
 * `alone' is 1 until pthread_create() is called, see there. glibc before 2.32: its own read()
 * tests multiple_threads in the thread's header (tcbhead_t, part of its ABI). `by_header'
 * says to test that.
 */
static char alone = 1, by_header, is_set_up;
static const char *one_thread = &alone;
static void set_up(void);

static int has_one_thread(void)
{
	int multiple_threads;

	if (!by_header)
		return *one_thread;
	asm volatile("movl %%fs:0x18, %0" : "=r"(multiple_threads));
	return !multiple_threads;
}

static __attribute__((noinline)) long undecided(int at, long nr, long a, long b, long c, long d, long e, long f)
{
	if (!is_set_up)	{ /* called by a library whose constructor runs before ours */
		set_up();
		if (*fast[at])
			return answer(fast_call(nr, a, b, c, d, e, f));
		if (direct[at])
			return direct[at](a, b, c, d, e, f);
	}
	if (path == FAST && by_header && at < FIRST_PLAIN && next[at].libcs) {
		if (has_one_thread())
			return answer(fast_call(nr, a, b, c, d, e, f));
		direct[at] = (function)next[at].address; /* for good: there are threads now */
	}
	if (path == INT80 && at <= AT_write && (unsigned long)c <= BOUNCE && next[at].libcs && has_one_thread() &&
	    !__atomic_exchange_n(&bouncing, 1, __ATOMIC_ACQUIRE)) {
		long result = int80_call(nr, a, (char *)b, c);

		__atomic_store_n(&bouncing, 0, __ATOMIC_RELEASE);
		return answer(result);
	}
	if (next[at].address)
		return ((function)next[at].address)(a, b, c, d, e, f);
	return answer(stock_call(nr, a, b, c, d, e, f));
}

#define DEFINE(name, number)						\
long name(long a, long b, long c, long d, long e, long f)		\
{									\
	if (*fast[AT_##name])						\
		return answer(fast_call3(number, a, b, c));		\
	if (direct[AT_##name])						\
		return direct[AT_##name](a, b, c, d, e, f);		\
	return undecided(AT_##name, number, a, b, c, 0, 0, 0);		\
}
#define DEFINE_LONG(name, number, fourth, fifth, sixth)					\
long name(long a, long b, long c, long d, long e, long f)				\
{											\
	if (*fast[AT_##name])								\
		return answer(fast_call(number, a, b, c, fourth, fifth, sixth));	\
	if (direct[AT_##name])								\
		return direct[AT_##name](a, b, c, d, e, f);				\
	return undecided(AT_##name, number, a, b, c, fourth, fifth, sixth);		\
}
CANCELLATION_POINTS(DEFINE)
LONG_CANCELLATION_POINTS(DEFINE_LONG)
PLAIN(DEFINE)
#undef DEFINE
#undef DEFINE_LONG

/* Look it up again: before glibc 2.34 libpthread may have been loaded in the meantime. */
static function next_now(int at)
{
	if (!next[at].address)
		find_next(&next[at], 1);
	return (function)next[at].address;
}

/* From now on a thread may be cancelled, or cancels itself. So all calls go libc's way. */
int pthread_cancel(unsigned long thread)
{
	for (int at = 0; at < FIRST_PLAIN; at++) {
		direct[at] = (function)next[at].address;
		fast[at] = &never;
	}
	by_header = 0;
	if (path == INT80)
		path = STOCK;
	return next_now(PTHREAD_CANCEL) ? next_now(PTHREAD_CANCEL)(thread, 0, 0, 0, 0, 0) : ENOSYS;
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
	return next_now(PTHREAD_CREATE) ? next_now(PTHREAD_CREATE)(thread, attributes, start, argument, 0, 0) : EAGAIN;
}

int thrd_create(long thread, long start, long argument)
{
	alone = 0;
	return next_now(THRD_CREATE) ? next_now(THRD_CREATE)(thread, start, argument, 0, 0, 0) : 2 /* thrd_error */;
}

asm(".pushsection .text\n"
    "	.hidden trial_restorer\n"
    "	.type trial_restorer, @function\n"
    "trial_restorer:\n"
    "	movl $15, %eax\n"	/* rt_sigreturn */
    "	syscall\n"
    "	.popsection");

static long trial_call(long nr, long a, long b, long c, long d)
{
	return stock_call(nr, a, b, c, d, 0, 0);
}

static void trial_skip(struct sigcontext *registers)
{
	const unsigned char *at = (const unsigned char *)registers->rip;

	if (at[0] == 0x0f && at[1] == 0x34) {	/* SYSENTER, with a SYSCALL behind it: FAST_CALL_AMD64 */
		registers->rip += 4;
		registers->rax = -ENOSYS;
	}
}

static long fast_close(long fd)
{
	return fast_call(__NR_close, fd, 0, 0, 0, 0, 0);
}

/*
 * The stub page. Its contents are not used on amd64. The mapping shows that the module is
 * there, and holds the module as long as it lasts.
 */
static int fast_calls_work(void)
{
	long fd, page;

	if (under_valgrind())
		return 0;
	/* by calls that the loader makes too: a filter of seccomp's may end who makes others */
	fd = stock_call(__NR_openat, -100 /* AT_FDCWD */, (long)"/dev/sysenter", 02000000 /* O_RDONLY | O_CLOEXEC */,
			0, 0, 0);
	if (fd < 0)
		return 0;
	page = stock_call(__NR_mmap, 0, 4096, 1 | 4 /* PROT_READ | PROT_EXEC */, 1 /* MAP_SHARED */, fd, 0);
	if ((unsigned long)page > -4096UL) {
		stock_call(__NR_close, fd, 0, 0, 0, 0, 0);
		return 0;
	}
	if (trial(fast_close, fd))
		return 1;
	stock_call(__NR_munmap, page, 4096, 0, 0, 0, 0);
	stock_call(__NR_close, fd, 0, 0, 0, 0, 0);
	return 0;
}

static void choose_path(void)
{
	const char *which = getenv ? getenv("SYSENTER_PATH") : NULL;

	if (!which || same_string(which, "fast")) {
		path = fast_calls_work() ? FAST : STOCK;
	} else if (same_string(which, "int80")) {
		/* PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT */
		long page = stock_call(__NR_mmap, 0, BOUNCE, 1 | 2, 2 | 0x20 | 0x40, -1, 0);

		bounce = (char *)page;
		path = (unsigned long)page > -4096UL ? STOCK : INT80;
	}
}

/*
 * Functions that are just their system call in glibc, and are more in musl: recvmsg and sendmsg clear
 * the padding in the caller's structures, which the kernel takes for the upper halves of lengths.
 * readlink takes an empty buffer, dup2 tries again at EBUSY, and pwrite heeds its offset on a file
 * with O_APPEND. So these are served for glibc only.
 */
static int is_more_than_its_call(int at)
{
	if (gnu_get_libc_version)
		return 0;
	return at == AT_recvmsg || at == AT_sendmsg || at == AT_readlink || at == AT_dup2 ||
	       at == AT_pwrite || at == AT_pwrite64;
}

static void set_up(void)
{
	is_set_up = 1;
	find_next(next, FUNCTIONS);
	choose_path();
	if (&__libc_single_threaded)
		one_thread = &__libc_single_threaded;
	else if (gnu_get_libc_version)
		by_header = 1;
	for (int at = 0; at < AFTER_PLAIN; at++) {
		int decided = !(at < FIRST_PLAIN && by_header && path == FAST) && !(at <= AT_write && path == INT80);

		if (decided || !next[at].libcs)
			direct[at] = (function)next[at].address;
		if (decided && next[at].libcs && path == FAST && !is_more_than_its_call(at))
			fast[at] = at < FIRST_PLAIN ? one_thread : &always;
	}
}

__attribute__((constructor)) static void constructor(void)
{
	if (!is_set_up)
		set_up();
}
