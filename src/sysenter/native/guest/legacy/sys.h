/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All that a freestanding program for Linux 2.2 and 2.4 needs here: system calls in two ways,
 * and JSON on the console. There is no libc, because today's do not run on these kernels.
 */
#ifndef SYSENTER_LEGACY_SYS_H
#define SYSENTER_LEGACY_SYS_H

typedef unsigned int u32;
typedef unsigned long long u64;

enum {
	NR_exit = 1, NR_fork = 2, NR_read = 3, NR_write = 4, NR_open = 5,
	NR_close = 6, NR_execve = 11, NR_mknod = 14, NR_getpid = 20,
	NR_mount = 21, NR_ptrace = 26, NR_alarm = 27, NR_pause = 29,
	NR_kill = 37, NR_mkdir = 39, NR_pipe = 42, NR_brk = 45,
	NR_signal = 48, NR_dup2 = 63, NR_getppid = 64, NR_sigaction = 67,
	NR_sigsuspend = 72, NR_gettimeofday = 78, NR_reboot = 88,
	NR_mmap = 90, NR_munmap = 91, NR_setitimer = 104, NR_iopl = 110,
	NR_vm86old = 113, NR_wait4 = 114, NR_clone = 120, NR_uname = 122,
	NR_modify_ldt = 123, NR_mprotect = 125, NR_create_module = 127,
	NR_init_module = 128, NR_delete_module = 129, NR_lseek = 19,
	NR_sched_yield = 158, NR_nanosleep = 162, NR_query_module = 167,
	NR_pread = 180, NR_sigaltstack = 186, NR_vfork = 190, NR_mmap2 = 192,
};

enum { ENOENT = 2, EINTR = 4, E2BIG = 7, EFAULT = 14, EBUSY = 16, EINVAL = 22,
       EFBIG = 27, ENOSYS = 38 };
enum { SIGTRAP = 5, SIGKILL = 9, SIGUSR1 = 10, SIGSEGV = 11, SIGALRM = 14,
       SIGCHLD = 17, SIGCONT = 18, SIGSTOP = 19 };

static inline long int80(long n, long a, long b, long c)
{
	long r;

	__asm__ volatile("int $0x80" : "=a" (r)
			 : "0" (n), "b" (a), "c" (b), "d" (c) : "memory", "cc");
	return r;
}

static inline long int80_5(long n, long a, long b, long c, long d, long e)
{
	long r;

	__asm__ volatile("int $0x80" : "=a" (r)
			 : "0" (n), "b" (a), "c" (b), "d" (c), "S" (d), "D" (e)
			 : "memory", "cc");
	return r;
}

/*
 * The stub. This header is compiled three times: for SYSENTER, with BY_SYSCALL for AMD's
 * instruction, and with BY_INT80 for the kernel's own entry, so that the same work can be
 * done without the module. A restarted call comes back to the return address less 2, so an
 * int $0x80 stands there. The kernel may destroy ecx and edx.
 *
 * ENTER_WITH is the code between push and pop of ebp. ENTER is the instruction itself, for
 * code that has set %ebp to the user stack (native/legacy/entry.S, syscall.S).
 */
#ifdef BY_SYSCALL
#define ENTER "syscall"
#define ENTER_BYTE 0x05
#define ENTER_WITH(between) \
	"pushl %%ecx\n\t" \
	"movl %%esp,%%ebp\n\t" \
	between \
	ENTER "\n\t" \
	"int $0x80\n" \
	"1:\tpopl %%ecx\n\t"
#elif defined(BY_INT80)
#define ENTER "int $0x80"
#define ENTER_BYTE 0x34			/* the byte behind 0f */
#define ENTER_WITH(between) \
	"movl %%esp,%%ebp\n\t" \
	between \
	"movl (%%ebp),%%ebp\n\t" \
	ENTER "\n" \
	"1:\t"
#else
#define ENTER "sysenter"
#define ENTER_BYTE 0x34
#define ENTER_WITH(between) \
	"movl %%esp,%%ebp\n\t" \
	"pushl $1f\n\t" \
	between \
	ENTER "\n\t" \
	"int $0x80\n" \
	"1:\t"
#endif

#define FAST_STUB "pushl %%ebp\n\t" ENTER_WITH("") "popl %%ebp\n\t"

static inline long fast(long n, long a, long b, long c)
{
	long r;

	__asm__ volatile(FAST_STUB : "=a" (r), "+c" (b), "+d" (c)
			 : "0" (n), "b" (a) : "memory", "cc");
	return r;
}

static inline long fast_6(long n, long a, long b, long c, long d, long e,
			  long f)
{
	long r = n;

	__asm__ volatile("pushl %%ebp\n\t"
			 "movl (%%eax),%%ebp\n\t"
			 "movl 4(%%eax),%%eax\n\t"
			 FAST_STUB
			 "popl %%ebp"
			 : "=a" (r), "+c" (b), "+d" (c)
			 : "0" ((long[]){ f, n }), "b" (a), "S" (d), "D" (e)
			 : "memory", "cc");
	return r;
}

/* modify_ldt, function 1 */
struct ldt_entry { u32 number, base, limit, flags; };
enum { LDT_32BIT = 1, LDT_CODE = 2 << 1, LDT_USEABLE = 1 << 6 };

static inline u64 tsc(void)
{
	u32 low, high;

	__asm__ volatile("rdtsc" : "=a" (low), "=d" (high));
	return (u64)high << 32 | low;
}

/* lib.c */
void *memset(void *to, int c, u32 n);
void *memcpy(void *to, const void *from, u32 n);
int streq(const char *a, const char *b);
int memory_same(const void *a, const void *b, u32 n);
u32 length(const char *s);
long number(const char *s);
u64 microseconds(void);
void say(const char *format, ...);	/* %s %d %u %x; one line, one write */
int forked(void);
int wait_for(int pid);			/* wait status */
void sleep_ms(int ms);
void on_signal(int sig, void (*handler)(int), int flags);
#define SA_ONSTACK 0x08000000
#define SA_RESTART 0x10000000
#define SA_RESETHAND 0x80000000

#define SIGNALED(status) ((status) & 0x7f)
#define EXITED(status) ((status) >> 8 & 0xff)
#define STOPPED(status) (((status) & 0xff) == 0x7f)
#define STOPSIG(status) ((status) >> 8 & 0xff)

/* The commands: 0 or a negative error. */
int load(int argc, char **argv);
int unload(int argc, char **argv);
int count(int argc, char **argv);
int dd(int argc, char **argv);
int pingpong(int argc, char **argv);
int hostile(int argc, char **argv);
int storm(int argc, char **argv);
int window(int argc, char **argv);

#endif
