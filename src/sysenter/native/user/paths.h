/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A call with up to three arguments by each entry path, for programs that measure them. */
#ifndef SYSENTER_PATHS_H
#define SYSENTER_PATHS_H
#include <fcntl.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#ifdef __x86_64__
#include "fast_call_amd64.h"
#else
#include "abi.h"
#endif

static void (*stock_path)(void), (*fast_path)(void);	/* amd64: only NULL or not */

/* Find the kernel's own path, and map the module's page if there is one. */
static inline void find_paths(void)
{
	int device = open("/dev/sysenter", O_RDONLY | O_CLOEXEC);

#ifdef __x86_64__
	stock_path = (void (*)(void))getauxval(AT_SYSINFO_EHDR);
#else
	stock_path = (void (*)(void))getauxval(AT_SYSINFO);
#endif
	if (device >= 0) {
		char *page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, device, 0);

		if (page != MAP_FAILED)
			fast_path = (void (*)(void))(page + SYSENTER_STUB_MARKED);
	}
}

/* nr is of the 32-bit table. int $0x80 can take a static program's data, which is below 4 GiB. */
static inline __attribute__((always_inline)) long by_int80(long nr, long a, long b, long c)
{
	int result;

	asm volatile("int $0x80" : "=a"(result) : "0"(nr), "b"(a), "c"(b), "d"(c)
		     : "memory", "cc"
#ifdef __x86_64__
		       , "r8", "r9", "r10", "r11"
#endif
		     );
	return result;
}

#ifdef __x86_64__
static inline __attribute__((always_inline)) long by_stock(long nr, long a, long b, long c)
{
	long result;

	asm volatile("syscall" : "=a"(result) : "0"(nr), "D"(a), "S"(b), "d"(c)
		     : "memory", "cc", "rcx", "r11");
	return result;
}

#define by_fast	fast_call3
#else
static inline __attribute__((always_inline)) long by_stock(long nr, long a, long b, long c)
{
	long result;

	asm volatile("call *%[path]" : "=a"(result)
		     : "0"(nr), "b"(a), "c"(b), "d"(c), [path] "m"(stock_path) : "memory", "cc");
	return result;
}

static inline __attribute__((always_inline)) long by_fast(long nr, long a, long b, long c)
{
	long result;

	asm volatile("call *%[path]" : "=a"(result)
		     : "0"(nr | SYSENTER_MARK_I386), "b"(a), "c"(b), "d"(c), [path] "m"(fast_path) : "memory", "cc");
	return result;
}
#endif

#endif
