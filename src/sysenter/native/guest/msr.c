// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Prints each CPU's SYSENTER registers, a JSON object a line, read by the kernel's msr
 * driver (/dev/cpu/N/msr; SDM Vol. 4: 174H, 175H, 176H). Prints also the SYSCALL registers
 * EFER and STAR (AMD APM Vol. 2). A register that does not exist is printed as all ones.
 */
#define _FILE_OFFSET_BITS	64	/* EFER and STAR are at C0000080H and above */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

static uint64_t msr(int fd, off_t number)
{
	uint64_t value = ~0ull;

	return pread(fd, &value, sizeof(value), number) == sizeof(value) ? value : ~0ull;
}

int main(void)
{
	for (int cpu = 0; cpu < 256; cpu++) {
		char name[32];
		int fd;

		snprintf(name, sizeof(name), "/dev/cpu/%d/msr", cpu);
		fd = open(name, O_RDONLY);
		if (fd < 0)
			break;
		printf("{\"cpu\": %d, \"cs\": \"0x%llx\", \"esp\": \"0x%llx\", \"eip\": \"0x%llx\", "
		       "\"efer\": \"0x%llx\", \"star\": \"0x%llx\"}\n", cpu,
		       (unsigned long long)msr(fd, 0x174), (unsigned long long)msr(fd, 0x175),
		       (unsigned long long)msr(fd, 0x176), (unsigned long long)msr(fd, 0xc0000080),
		       (unsigned long long)msr(fd, 0xc0000081));
		close(fd);
	}
	return 0;
}
