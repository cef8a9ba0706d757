// SPDX-License-Identifier: GPL-2.0-or-later
/*
 *	rings SECONDS
 *
 * Eight processes whose children each make an io_uring and end.
 */
#include <linux/io_uring.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 1);

	for (int i = 0; i < 8; i++) {
		if (fork())
			continue;
		while (time(NULL) < end) {
			if (!fork()) {
				struct io_uring_params parameters = { 0 };

				syscall(SYS_io_uring_setup, 4, &parameters);
				_exit(0);
			}
			wait(NULL);
		}
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
	return 0;
}
