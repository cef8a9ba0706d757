// SPDX-License-Identifier: GPL-2.0-or-later
/*
 *	kexec IMAGE INITRD COMMAND-LINE
 *
 * Starts another kernel at once, as kexec -e does. Nothing is unloaded before.
 * i386 has no kexec_file_load(). So this program lays out the bzImage by the 32-bit boot protocol
 * (Documentation/arch/x86/boot.rst). It takes this kernel's own zero page, which has the memory
 * map, and puts the new kernel's setup header into it.
 */
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ZERO_PAGE	0x90000u
#define COMMAND_LINE	0x91000u
#define TRAMPOLINE	0x92000u
#define INITRD		0x8000000u	/* 128 MiB: above where the kernel decompresses itself */
#define PAGES(size)	(((size) + 4095) & ~4095u)

/* Offsets in the zero page and in the image. */
#define SETUP_SECTORS	0x1f1
#define HEADER_END	0x201		/* distance from 0x202 */
#define TYPE_OF_LOADER	0x210
#define CODE32_START	0x214
#define INITRD_AT	0x218
#define INITRD_SIZE	0x21c
#define COMMAND_LINE_AT	0x228
#define PREFERRED_AT	0x258

static unsigned char *contents(const char *name, uint32_t *size)
{
	int fd = open(name, O_RDONLY);
	struct stat status;
	unsigned char *data;
	uint32_t at = 0;
	ssize_t more;

	if (fd < 0 || fstat(fd, &status) || !(data = malloc(PAGES(status.st_size)))) {
		perror(name);
		exit(1);
	}
	while ((more = read(fd, data + at, PAGES(status.st_size) - at)) > 0)
		at += more;
	close(fd);
	*size = at;
	return data;
}

static void put(unsigned char *page, unsigned int at, uint32_t value)
{
	memcpy(page + at, &value, sizeof(value));
}

int main(int argc, char **argv)
{
	/* movl $ZERO_PAGE, %esi; movl $kernel, %eax; jmp *%eax: the rest is as the protocol wants it */
	unsigned char trampoline[] = { 0xbe, 0, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xff, 0xe0 };
	unsigned char *image, *initrd, *zero;
	uint32_t image_size, initrd_size, zero_size, kernel, setup;

	if (argc != 4)
		return 2;
	image = contents(argv[1], &image_size);
	initrd = contents(argv[2], &initrd_size);
	zero = contents("/sys/kernel/boot_params/data", &zero_size);
	memcpy(zero + 0x1f1, image + 0x1f1, 0x202 + image[HEADER_END] - 0x1f1);
	memcpy(&kernel, image + PREFERRED_AT, sizeof(kernel));
	setup = ((image[SETUP_SECTORS] ? image[SETUP_SECTORS] : 4) + 1) * 512;
	zero[TYPE_OF_LOADER] = 0xff;
	put(zero, CODE32_START, kernel);
	put(zero, INITRD_AT, INITRD);
	put(zero, INITRD_SIZE, initrd_size);
	put(zero, COMMAND_LINE_AT, COMMAND_LINE);
	put(trampoline, 1, ZERO_PAGE);
	put(trampoline, 6, kernel);
	struct kexec_segment segments[] = {
		{ zero, zero_size, (void *)ZERO_PAGE, 4096 },
		{ argv[3], strlen(argv[3]) + 1, (void *)COMMAND_LINE, 4096 },
		{ trampoline, sizeof(trampoline), (void *)TRAMPOLINE, 4096 },
		{ image + setup, image_size - setup, (void *)kernel, PAGES(image_size - setup) },
		{ initrd, initrd_size, (void *)INITRD, PAGES(initrd_size) },
	};

	if (syscall(SYS_kexec_load, TRAMPOLINE, sizeof(segments) / sizeof(*segments), segments, KEXEC_ARCH_DEFAULT)) {
		perror("kexec_load");
		return 1;
	}
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, 0);
	perror("reboot");
	return 1;
}
