// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Sleeps in a fast call while another thread unmaps the stub. So only the task's stack tells the
 * module that it is needed. At the end the read must still return what is written to the pipe.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef __x86_64__
#include "fast_call_amd64.h"
#else
#include "abi.h"
#endif

static char *page;

static void *take_away(void *unused)
{
	usleep(100000);
	munmap(page, 4096);
	return unused;
}

int main(void)
{
	int device = open("/dev/sysenter", O_RDONLY), fifo;
	pthread_t thread;
	char byte = 0;
	long result;

	page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, device, 0);
	if (page == MAP_FAILED || close(device) || mkfifo("/tmp/wake", 0600))
		return 2;
	fifo = open("/tmp/wake", O_RDWR);
	if (fifo < 0 || pthread_create(&thread, NULL, take_away, NULL))
		return 3;
#ifdef __x86_64__
	result = fast_call3(SYS_read, fifo, (long)&byte, 1);
#else
	/* returns by the vDSO's landing pad, so the page may go meanwhile */
	asm volatile("call *%[path]" : "=a"(result)
		     : "0"(SYS_read | SYSENTER_MARK_I386), "b"(fifo), "c"(&byte), "d"(1L),
		       [path] "m"(*&(char *){ page + SYSENTER_STUB_MARKED }) : "memory", "cc");
#endif
	return result == 1 && byte == 'x' ? 0 : 1;
}
