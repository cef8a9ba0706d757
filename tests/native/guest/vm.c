// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The smallest virtual machine of KVM's: one page of real-mode code, which counts and writes to a
 * port, for ever.
 *
 *	vm	runs it for two minutes, or until it is killed; prints "running" at its first exit
 *
 * Between the exits this program makes calls by int $0x80 and by its C library. It ends with status
 * 3 if one of them gives a wrong answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define START	0x1000

static const unsigned char code[] = {
	0xb9, 0x00, 0x04,	/* 0:	mov  $1024, %cx */
	0xe2, 0xfe,		/* 1:	loop 1b */
	0xe6, 0x10,		/*	out  %al, $0x10 */
	0xeb, 0xf7,		/*	jmp  0b */
};

static int need(int result, const char *what)
{
	if (result >= 0)
		return result;
	perror(what);
	exit(1);
}

static long by_int80(long nr)
{
	int result;

	asm volatile("int $0x80" : "=a"(result) : "0"(nr) : "memory", "cc"
#ifdef __x86_64__
		     , "r8", "r9", "r10", "r11"
#endif
		     );
	return result;
}

int main(void)
{
	int kvm = need(open("/dev/kvm", O_RDWR), "/dev/kvm");
	int machine = need(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	int cpu = need(ioctl(machine, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	int size = need(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	unsigned char *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = START, .memory_size = 4096, .userspace_addr = (uintptr_t)memory,
	};
	struct kvm_regs registers = { .rip = START, .rflags = 2 };
	struct kvm_sregs segments;
	long parent = getppid(), exits;

	alarm(120);
	if (run == MAP_FAILED || memory == MAP_FAILED)
		need(-1, "mmap");
	memcpy(memory, code, sizeof(code));
	need(ioctl(machine, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	need(ioctl(cpu, KVM_GET_SREGS, &segments), "KVM_GET_SREGS");
	segments.cs.base = segments.cs.selector = 0;
	need(ioctl(cpu, KVM_SET_SREGS, &segments), "KVM_SET_SREGS");
	need(ioctl(cpu, KVM_SET_REGS, &registers), "KVM_SET_REGS");
	for (exits = 0;; exits++) {
		/* the machine that this one is in goes to sleep: tasks are frozen by a signal that is none */
		while (ioctl(cpu, KVM_RUN, 0) < 0)
			if (errno != EINTR)
				need(-1, "KVM_RUN");
		if (run->exit_reason != KVM_EXIT_IO || run->io.port != 0x10) {
			fprintf(stderr, "vm: exit %ld has reason %u\n", exits, run->exit_reason);
			return 2;
		}
		if (getppid() != parent || by_int80(64) != parent)
			return 3;
		if (exits == 0) {
			puts("running");
			fflush(stdout);
		}
	}
}
