// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a program expects of its C library, with libsysenter.so preloaded or not. It is compiled
 * for today's glibc, for an older one, and for musl.
 *
 *	preloaded calls		results and errno of reads, writes and plain calls
 *	preloaded cancel	a thread that waits in read() can be cancelled
 *	preloaded int80		with SYSENTER_PATH=int80: data of a thread, and of a signal handler in the
 *				midst of a call, stays apart from the program's
 *	preloaded namespace F	loads the library F in a namespace without a C library, and in one
 *				with it
 *
 * Prints "ok", or what is wrong. An alarm ends it if it hangs.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPECT(condition) do { \
	if (!(condition)) { printf("line %d: not %s (errno %d)\n", __LINE__, #condition, errno); exit(1); } \
} while (0)

static void calls(void)
{
	char byte = 'x';
	int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY), ends[2];

	EXPECT(zero >= 0 && null >= 0);
	for (int i = 0; i < 3000; i++) {
		EXPECT(read(zero, &byte, 1) == 1 && byte == 0);
		EXPECT(write(null, "y", 1) == 1);
	}
	errno = 0;
	EXPECT(read(-1, &byte, 1) == -1 && errno == EBADF);
	errno = 0;
	EXPECT(write(zero, &byte, 1) == -1 && errno == EBADF);
	EXPECT(getpid() == syscall(SYS_getpid) && getppid() == syscall(SYS_getppid));
	EXPECT(pipe(ends) == 0 && write(ends[1], "pipe", 4) == 4);
	EXPECT(lseek(ends[0], 0, SEEK_SET) == -1 && errno == ESPIPE);
	char text[8] = "";
	EXPECT(read(ends[0], text, sizeof text) == 4 && !strcmp(text, "pipe"));
	int copy = dup(zero);
	EXPECT(copy >= 0 && read(copy, text, 8) == 8 && text[0] == 0);
	EXPECT(umask(027) >= 0 && umask(022) == 027);

	/* a program sets the members of a structure, not the padding that its C library puts between them */
	struct iovec part = { text, 4 };
	struct msghdr message;
	EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	for (int receives = 0; receives < 2; receives++) {
		memset(&message, 0x5a, sizeof message);
		message.msg_name = NULL;
		message.msg_namelen = 0;
		message.msg_iov = &part;
		message.msg_iovlen = 1;
		message.msg_control = NULL;
		message.msg_controllen = 0;
		message.msg_flags = 0;
		EXPECT((receives ? recvmsg(ends[1], &message, 0) : sendmsg(ends[0], &message, 0)) == 4);
	}
#ifndef __GLIBC__	/* to glibc an empty buffer is an error */
	EXPECT(readlink("/proc/self", text, 0) == 0);
#endif
}

static int ends[2];

static void *wait_in_read(void *unused)
{
	char byte;

	(void)unused;
	read(ends[0], &byte, 1);
	return NULL;
}

static void *count_reads(void *descriptor)
{
	char byte;
	long count = 0;

	while (count < 500 && read(*(int *)descriptor, &byte, 1) == 1)
		count++;
	errno = 0;
	EXPECT(read(-1, &byte, 1) == -1 && errno == EBADF);
	return (void *)count;
}

static void cancel(void)
{
	pthread_t thread, others[3];
	void *result;
	int zero = open("/dev/zero", O_RDONLY);

	calls();
	EXPECT(pipe(ends) == 0);
	EXPECT(!pthread_create(&thread, NULL, wait_in_read, NULL));
	usleep(100000);
	EXPECT(!pthread_cancel(thread));
	EXPECT(!pthread_join(thread, &result) && result == PTHREAD_CANCELED);
	for (int i = 0; i < 3; i++)
		EXPECT(!pthread_create(&others[i], NULL, count_reads, &zero));
	for (int i = 0; i < 3; i++)
		EXPECT(!pthread_join(others[i], &result) && result == (void *)500L);
	calls();
}

#ifdef __x86_64__
static int full[2];

static void make_room(int signal)
{
	static char room[65536];
	int error = errno;

	(void)signal;
	EXPECT(write(ends[1], "the handler's own data", 22) == 22);
	while (read(full[0], room, sizeof room) > 0)
		;
	errno = error;
}

static void a_handler_in_the_midst_of_a_write(void)
{
	struct sigaction action = { .sa_handler = make_room, .sa_flags = SA_RESTART };
	char page[4096], text[32] = "";
	int child;

	memset(page, 'f', sizeof page);
	EXPECT(pipe(ends) == 0 && pipe(full) == 0 && !sigaction(SIGUSR1, &action, NULL));
	EXPECT(!fcntl(full[0], F_SETFL, O_NONBLOCK) && !fcntl(full[1], F_SETFL, O_NONBLOCK));
	while (write(full[1], page, sizeof page) > 0)
		;
	EXPECT(errno == EAGAIN && !fcntl(full[1], F_SETFL, 0));
	child = fork();
	EXPECT(child >= 0);
	if (!child) {
		usleep(200000);
		kill(getppid(), SIGUSR1);
		_exit(0);
	}
	EXPECT(write(full[1], "the program's own data", 22) == 22);
	EXPECT(read(full[0], text, 22) == 22 && !strcmp(text, "the program's own data"));
	EXPECT(read(ends[0], text, 22) == 22 && !strcmp(text, "the handler's own data"));
}

/* From here on each call by int $0x80 fails: linux/filter.h and linux/seccomp.h, which musl does not have. */
static void let_int80_fail(void)
{
	static struct { unsigned short code; unsigned char yes, no; unsigned value; } filter[] = {
		{ 0x20, 0, 0, 4 },		/* load seccomp_data.arch */
		{ 0x15, 0, 1, 0x40000003 },	/* AUDIT_ARCH_I386? */
		{ 0x06, 0, 0, 0x50000 | EXDEV },	/* SECCOMP_RET_ERRNO */
		{ 0x06, 0, 0, 0x7fff0000 },	/* SECCOMP_RET_ALLOW */
	};
	struct { unsigned short length; void *filter; } program = { 4, filter };

	EXPECT(!prctl(38 /* PR_SET_NO_NEW_PRIVS */, 1, 0, 0, 0));
	EXPECT(!prctl(22 /* PR_SET_SECCOMP */, 2 /* SECCOMP_MODE_FILTER */, &program, 0, 0));
}

static void int80(void)
{
	pthread_t thread;
	char byte = 'x';
	int zero = open("/dev/zero", O_RDONLY);

	a_handler_in_the_midst_of_a_write();
	let_int80_fail();
	EXPECT(read(zero, &byte, 1) == -1 && errno == EXDEV);
	EXPECT(!pthread_create(&thread, NULL, wait_in_read, NULL));
	EXPECT(read(zero, &byte, 1) == 1 && byte == 0);
	EXPECT(write(ends[1], "y", 1) == 1);
	EXPECT(!pthread_join(thread, NULL));
}
#else
static void int80(void)
{
	calls();	/* there the data goes to its own place */
}
#endif

#ifdef __GLIBC__
static void namespaces(const char *library)
{
	typedef long (*reader)(int, void *, size_t);
	void *alone = dlmopen(LM_ID_NEWLM, library, RTLD_NOW), *libc = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW), *with;
	int zero = open("/dev/zero", O_RDONLY);
	Lmid_t name;
	char byte = 'x';

	if (!alone || !libc) {
		puts(dlerror());
		exit(1);
	}
	EXPECT(!dlinfo(libc, RTLD_DI_LMID, &name));
	with = dlmopen(name, library, RTLD_NOW);
	EXPECT(with);
	EXPECT(((reader)dlsym(alone, "read"))(zero, &byte, 1) == 1 && byte == 0);
	EXPECT(((reader)dlsym(alone, "read"))(-1, &byte, 1) == -1);
	byte = 'x';
	EXPECT(((reader)dlsym(with, "read"))(zero, &byte, 1) == 1 && byte == 0);
}
#endif

int main(int argc, char **argv)
{
	alarm(20);
	if (argc > 1 && !strcmp(argv[1], "calls"))
		calls();
	else if (argc > 1 && !strcmp(argv[1], "cancel"))
		cancel();
	else if (argc > 1 && !strcmp(argv[1], "int80"))
		int80();
#ifdef __GLIBC__
	else if (argc > 2 && !strcmp(argv[1], "namespace"))
		namespaces(argv[2]);
#endif
	else
		return 2;
	puts("ok");
	return 0;
}
