// SPDX-License-Identifier: GPL-2.0-or-later
/*
 *	hazards_storm SECONDS PROCESSES [SEED [stock]]
 *
 * Many unprivileged processes make random calls, with random arguments and flags, by the fast path
 * (or the kernel's own), under a 1 kHz timer. After a while each is killed wherever it is, and
 * begun anew. Between the random calls there are some whose answer is known, and is compared.
 * Prints one JSON object at the end; "said" has what was wrong.
 */
#include "hazards.h"
#include <sys/resource.h>
#include <sys/time.h>

struct counts { long calls, right, wrong, born, killed, died; };
static struct counts *counts;
static uint32_t state;
/*
 * What the calls read and write, with nothing else within a page of it: a poll() across its end
 * once wrote into this program's own variables, and all answers after that were wrong. It does not
 * begin at a page, so that no call unmaps it with all behind it.
 */
static char *buffer;
#define BUFFER_SIZE	65536
#define BUFFER_BEGINS	768

static uint32_t any(void)		/* xorshift32 (Marsaglia 2003) */
{
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state;
}

/*
 * Calls that would end the storm: they end or stop other processes, leave memory that no process
 * owns, or wait for the disk. And io_uring_setup: while a CPU comes on line it crashes a stock
 * 6.1 (docs/evidence.md).
 */
static const unsigned char left_out[512] = {
#ifdef __i386__
	[SYS_ipc] = 1,
#endif
	[SYS_kill] = 1, [SYS_tkill] = 1, [SYS_tgkill] = 1, [SYS_rt_sigqueueinfo] = 1, [SYS_rt_tgsigqueueinfo] = 1,
	[SYS_pidfd_send_signal] = 1, [SYS_exit] = 1, [SYS_exit_group] = 1, [SYS_fork] = 1, [SYS_vfork] = 1,
	[SYS_clone] = 1, [SYS_clone3] = 1, [SYS_shmget] = 1, [SYS_msgget] = 1, [SYS_semget] = 1,
	[SYS_add_key] = 1, [SYS_request_key] = 1, [SYS_keyctl] = 1, [SYS_sync] = 1, [SYS_reboot] = 1, [SYS_mq_open] = 1,
	[SYS_ptrace] = 1, [SYS_execve] = 1, [SYS_execveat] = 1, [SYS_seccomp] = 1, [SYS_setitimer] = 1,
	[SYS_io_uring_setup] = 1,
};

static long any_argument(void)
{
	switch (any() % 8) {
	case 0: return any();
	case 1: return (long)(buffer + any() % BUFFER_SIZE);
	case 2: return KERNEL_ADDRESS + any() % 0x40000000u;
	case 3: return -(long)(any() % 5000);
	case 4: return (long)buffer;
	default: return any() % 64;
	}
}

static int map_buffer(void)
{
	size_t size = BUFFER_BEGINS + BUFFER_SIZE;
	char *map = mmap(NULL, 4096 + size + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	buffer = map + 4096 + BUFFER_BEGINS;
	return map != MAP_FAILED && !mprotect(map + 4096, size, PROT_READ | PROT_WRITE);
}

static void ignore(int signal)
{
	(void)signal;
}

/* Is the answer right? Keeps what the first wrong ones are. */
static int answer(const char *what, long is, long wanted)
{
	if (is != wanted)
		note("%s is %ld; ", what, is);
	return is == wanted;
}

/* last: the number of the random call before */
static void known_answers(long last)
{
	struct call before = CALL(SYS_getpid, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66), c = before;
	long pid = syscall(SYS_getpid);
	uid_t ids[3] = { 9, 9, 9 };
	long mapped;
	int good;

	enter(&c);
	good = answer("getpid", c.nr, pid);
	if (!kept(&before, &c)) {
		note_call("getpid", &c);
		good = 0;
	}
	good &= answer("getresuid", call(SYS_getresuid32, &ids[0], &ids[1], &ids[2]), 0) && answer("a uid", ids[1], ids[0]);
	mapped = call(SYS_mmap2, 0, 0, 3, 4, 5, 6);
	good &= mapped == -EBADF || answer("mmap of no file", mapped, -EINVAL);
	good &= answer("no call", call(NO_SUCH_CALL, any(), any(), any(), any(), any(), any()), -ENOSYS);
	if (!good)
		note("in process %ld after call %ld. ", pid, last);
	__atomic_add_fetch(good ? &counts->right : &counts->wrong, 1, __ATOMIC_RELAXED);
}

static void one_process(void)
{
	static const unsigned long flags[] = { 0, 0, 0, 0, FLAG_DF, FLAG_NT, FLAG_AC, FLAG_ID, FLAG_TF, FLAG_TF | FLAG_AC, 0x8d5 };
	struct itimerval often = { { 0, 1000 }, { 0, 1000 } };
	struct rlimit limit = { 64 << 20, 64 << 20 };
	struct sigaction action = { .sa_handler = ignore };
	int null = open("/dev/null", O_RDWR);

	/* not the terminal of the answers: the calls would fill it or stop it (TCXONC) */
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	setrlimit(RLIMIT_AS, &limit);
	limit = (struct rlimit){ 1 << 20, 1 << 20 };
	setrlimit(RLIMIT_FSIZE, &limit);
	limit = (struct rlimit){ 0, 0 };
	setrlimit(RLIMIT_CORE, &limit);
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGTRAP, &action, NULL);
	sigaction(SIGXFSZ, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (long i = 0, last = -1;; i++) {
		uint32_t nr = any() % 512;

		if (left_out[nr])
			continue;
		if (i < 200 && !(i & 7))
			known_answers(last);	/* first: the random calls may leave little of this process */
		struct call c = CALL(nr, any_argument(), any_argument(), any_argument(), any_argument(), any_argument(),
				     any_argument());

		c.flags |= flags[any() % (sizeof(flags) / sizeof(*flags))];
		last = nr;
		__atomic_add_fetch(&counts->calls, 1, __ATOMIC_RELAXED);
		enter(&c);
	}
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 10, processes = argc > 2 ? atoi(argv[2]) : 16;
	struct timespec beat = { 0, 20000000 }, now;
	sigset_t child_set;
	pid_t *pids = calloc(processes, sizeof(*pids));
	time_t end;

	if (setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000))
		return 2;
	state = argc > 3 ? strtoul(argv[3], NULL, 0) : 2463534242u;
	if (argc < 5) {
		stub_page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, open("/dev/sysenter", O_RDONLY), 0);
		if (stub_page != MAP_FAILED)
			take_path(MARK);
	}
	counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	said = mmap(NULL, SAID_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (stub_page == MAP_FAILED || counts == MAP_FAILED || said == MAP_FAILED || !map_buffer())
		return 2;
	sigemptyset(&child_set);
	sigaddset(&child_set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child_set, NULL);
	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec + seconds;
	while (now.tv_sec < end) {
		int status, which = any() % processes;
		pid_t pid;

		/* every so often: killed wherever it is */
		if (!(any() % 4) && pids[which]) {
			kill(-pids[which], SIGKILL);
			kill(pids[which], SIGKILL);
			counts->killed++;
		}
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			for (int i = 0; i < processes; i++)
				if (pids[i] == pid) {
					pids[i] = 0;
					counts->died++;
				}
		for (int i = 0; i < processes; i++) {
			uint32_t seed = any() | 1;

			if (pids[i])
				continue;
			pids[i] = fork();
			if (!pids[i]) {
				setpgid(0, 0);
				sigprocmask(SIG_UNBLOCK, &child_set, NULL);
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				state = seed;
				one_process();
			}
			counts->born++;
		}
		sigtimedwait(&child_set, NULL, &beat);
		clock_gettime(CLOCK_MONOTONIC, &now);
	}
	for (int i = 0; i < processes; i++)
		if (pids[i] > 0)
			kill(pids[i], SIGKILL);
	sigprocmask(SIG_UNBLOCK, &child_set, NULL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	printf("{\"storm\": {\"calls\": %ld, \"right\": %ld, \"wrong\": %ld, \"born\": %ld, \"killed\": %ld, \"died\": %ld, \"said\": \"%s\"}}\n",
	       counts->calls, counts->right, counts->wrong, counts->born, counts->killed, counts->died, said);
	return counts->wrong != 0;
}
