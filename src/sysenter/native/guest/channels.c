// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * channels PROGRAM [ARGUMENT...]: runs a program and sends its standard output, its
 * standard error and its status to the host over one line, each marked as what it is.
 *
 * Prints one JSON object a line on our own standard output:
 *
 *	{"out": "BASE64"}	bytes of its standard output
 *	{"err": "BASE64"}	bytes of its standard error
 *	{"status": N}		when it has ended, after all that it wrote. If a signal
 *				killed it, N is 128 plus the signal's number, as in a shell
 *
 * So nothing that a program writes can be mistaken for a record, and no byte is lost. A
 * process that the program has left in the background is not waited for.
 */
#define _GNU_SOURCE	/* pipe2() */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK	3072	/* a multiple of 3, so that base64 needs no padding inside */
#define WAIT	20	/* ms between tests of whether it has ended */
#define LOOK	32	/* chunks at once: more than a pipe holds; ends if somebody writes on */

static const char *const keys[] = { "out", "err" };

static void write_all(const char *text, size_t length)
{
	while (length) {
		ssize_t done = write(STDOUT_FILENO, text, length);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			exit(126);	/* nobody is there to be told */
		text += done;
		length -= done;
	}
}

static void tell(const char *key, const unsigned char *data, size_t length)
{
	static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	static char line[CHUNK / 3 * 4 + 32];
	char *to = line + sprintf(line, "{\"%s\": \"", key);

	for (size_t i = 0; i < length; i += 3) {
		size_t left = length - i;
		unsigned int bits = data[i] << 16;

		if (left > 1)
			bits |= data[i + 1] << 8;
		if (left > 2)
			bits |= data[i + 2];
		*to++ = digit[bits >> 18];
		*to++ = digit[bits >> 12 & 63];
		*to++ = left > 1 ? digit[bits >> 6 & 63] : '=';
		*to++ = left > 2 ? digit[bits & 63] : '=';
	}
	memcpy(to, "\"}\n", 3);
	write_all(line, to + 3 - line);
}

/* Pass on what can be read now. Returns 0 if there was no more. */
static int pass_on(struct pollfd *from, const char *key)
{
	unsigned char data[CHUNK];
	ssize_t length = read(from->fd, data, sizeof(data));

	if (length > 0) {
		tell(key, data, length);
		return 1;
	}
	if (length == 0) {
		close(from->fd);
		from->fd = -1;	/* poll() ignores it */
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct pollfd ends[2];
	int pipes[2][2], status = 0;
	char line[32];
	pid_t child;

	if (argc < 2)
		return 126;
	for (int i = 0; i < 2; i++) {
		if (pipe2(pipes[i], O_CLOEXEC))
			return 126;
		ends[i] = (struct pollfd){ .fd = pipes[i][0], .events = POLLIN };
		/* HAZARD: only our own end, or the program's writes fail with EAGAIN. */
		fcntl(pipes[i][0], F_SETFL, O_NONBLOCK);
	}
	child = fork();
	if (child < 0)
		return 126;
	if (child == 0) {
		dup2(pipes[0][1], STDOUT_FILENO);
		dup2(pipes[1][1], STDERR_FILENO);
		execvp(argv[1], argv + 1);
		_exit(127);
	}
	close(pipes[0][1]);
	close(pipes[1][1]);
	for (;;) {
		pid_t ended = waitpid(child, &status, WNOHANG);

		if (!ended)
			poll(ends, 2, WAIT);
		for (int i = 0; i < 2; i++)
			for (int n = 0; n < LOOK && ends[i].fd >= 0; n++)
				if (!pass_on(&ends[i], keys[i]))
					break;
		if (ended)	/* it ended before the last reading, so nothing is missing */
			break;
	}
	snprintf(line, sizeof(line), "{\"status\": %d}\n",
		 WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
	write_all(line, strlen(line));
	return 0;
}
