// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Hostile callers that only i386 has: the segments that the entry loads, the stack that %ebp
 * names, and the vDSO's landing pad.
 */
#include "hazards_faults.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

/* fs names an LDT entry, and another thread removes that entry while we sleep inside. */
static int ldt_taker(void *unused)
{
	(void)unused;
	milliseconds(30);
	set_ldt(0, 0, 0);
	return 0;
}

static void fs_taken_away(void)
{
	struct timespec sleep = { 0, 120000000 };
	struct call c;

	note("ldt %d ", set_ldt(0, 0xff, 1));
	start_thread(ldt_taker);
	c = (struct call)CALL(SYS_nanosleep, (long)&sleep, 0, 0, 0, 0, 0);
	c.fs = 7;
	enter(&c);
	note("%ld fs %lx gs %s ", c.nr, c.fs, c.gs == selector_gs() ? "kept" : "lost");
}

/* SYSENTER from a 16-bit code segment. After it the code segment is the flat one. */
static void code_segment_16(void)
{
	static struct { uint32_t offset; uint16_t selector; } __attribute__((packed)) target = { 0, 7 };
	unsigned char *code = mmap((void *)0x10000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	struct user_desc d = { .entry_number = 0, .base_addr = 0x10000, .limit = 0xfff, .contents = 2, .useable = 1 };
	long result;

	note("ldt %ld ", syscall(SYS_modify_ldt, 1, &d, sizeof(d)));
	code[0] = 0x0f;
	code[1] = by_syscall() ? 0x05 : 0x34;
	asm volatile("call 1f; jmp 2f\n"
		     "1: pushl %%ecx; pushl %%edx; pushl %%ebp; movl %%esp, %%ebp\n"
		     "testl %%esi, %%esi; jz 3f; movl %%ecx, %%ebp\n"
		     "3: ljmp *%1\n"
		     "2:\n" : "=a"(result) : "m"(target), "0"(SYS_getuid32 | mark), "c"(0), "d"(0), "b"(0), "S"(by_syscall()) : "memory");
	note("%ld ", result);
}

/* --- the stack that ebp names -------------------------------------------------- */

static void bad_stack(uint32_t ebp, long nr)
{
	struct call c = CALL(nr, 0, 0, 0, 0, 0, ebp);

	note("%lx/%ld: ", (unsigned long)ebp, nr);
	if (!sigsetjmp(back, 1))
		enter_raw(&c);
}

static void bad_ebp(void)
{
	static const uint32_t values[] = {
		0, 1, 4, 0xfff, 0xffffffff, 0xfffffffc, 0xfffffff0, 0xc0000000, 0xbfffffff, 0xbffffffc, 0xbffffffd,
		0xc1000000, 0xc0100000, 0xffffe000, 0x80000000, 0xf8000000, 0xff800000,
	};
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	catch_faults();
	for (unsigned int i = 0; i < sizeof(values) / sizeof(*values); i++) {
		bad_stack(values[i], SYS_getuid32);
		bad_stack(values[i], SYS_mmap2);
		bad_stack(values[i], SYS_sigaltstack);
		bad_stack(values[i], NO_SUCH_CALL);
	}
	munmap(pages + 4096, 4096);
	for (int left = 0; left < 16; left += 2) {
		/* arg6, edx, ecx, return address: cut off by the end of the page */
		memset(pages + 4096 - 16, 0, 16);
		bad_stack((uintptr_t)pages + 4096 - left, SYS_getuid32);
		bad_stack((uintptr_t)pages + 4096 - left, SYS_mmap2);
	}
	mprotect(pages, 4096, PROT_NONE);
	bad_stack((uintptr_t)pages, SYS_mmap2);
	bad_stack((uintptr_t)pages, SYS_getuid32);
}

/* What does a six-argument call answer if the sixth cannot be read? And is the call made? */
static void on_fault_eax(int signal, siginfo_t *info, void *context)
{
	(void)info;
	note("signal %d eax %x ", signal, ((ucontext_t *)context)->uc_mcontext.gregs[REG_EAX]);
	siglongjmp(back, 1);
}

static void sixth_argument_unreadable(void)
{
	catch_faults();
	handle(SIGSEGV, on_fault_eax, SA_ONSTACK | SA_NODEFER);
	bad_stack(0, SYS_mmap2);
	bad_stack(0xc0000000, SYS_mmap2);
	bad_stack(0xbffffffd, SYS_mmap2);
	bad_stack(0xffffffff, SYS_futex);
}

/* The fetch itself brings in the stack's page: it was swapped out, or never touched. */
static void sixth_argument_faults_in(void)
{
	uint32_t *area = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	catch_faults();
	handle(SIGSEGV, on_fault_eax, SA_ONSTACK | SA_NODEFER);
	bad_stack((uintptr_t)area + 1024, SYS_mmap2);	/* all zero: returns to 0 */
	note("%x ", area[256]);
}

/* A user-mode handler (userfaultfd) brings in the stack's page, 30 ms later. */
static int fault_handler, faults_handled;
static char *faulting;

static int handle_fault(void *unused)
{
	static char page[4096] __attribute__((aligned(4096)));
	struct uffdio_copy copy = { .dst = (uintptr_t)faulting, .src = (uintptr_t)page, .len = 4096 };
	struct uffd_msg message;

	(void)unused;
	if (read(fault_handler, &message, sizeof(message)) != sizeof(message))
		return 1;
	milliseconds(30);
	faults_handled++;
	return ioctl(fault_handler, UFFDIO_COPY, &copy);
}

static void sixth_argument_by_userfaultfd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register all = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	faulting = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fault_handler = syscall(SYS_userfaultfd, O_CLOEXEC);
	all.range = (struct uffdio_range){ (uintptr_t)faulting, 4096 };
	note("%d ", fault_handler < 0 ? -errno : 0);
	note("%d ", ioctl(fault_handler, UFFDIO_API, &api));
	note("%d ", ioctl(fault_handler, UFFDIO_REGISTER, &all));
	start_thread(handle_fault);
	catch_faults();
	handle(SIGSEGV, on_fault_eax, SA_ONSTACK | SA_NODEFER);
	bad_stack((uintptr_t)faulting + 1024, SYS_mmap2);	/* all zero: returns to 0 */
	note("handled %d ", faults_handled);
}

static uint32_t watched;

static void mov_ss_then_sysenter(void)
{
	uint16_t ss;
	long result;

	asm volatile("mov %%ss, %0" : "=r"(ss));
	watched = ss;
	asm volatile("call 1f; jmp 2f\n"
		     "1: pushl %%ecx; pushl %%edx; pushl %%ebp; testl %%esi, %%esi; jnz 3f; movl %%esp, %%ebp\n"
		     "mov %1, %%ss; sysenter\n"
		     "3: movl %%ecx, %%ebp\n"
		     "mov %1, %%ss; syscall\n"
		     "2:\n" : "=a"(result) : "m"(watched), "0"(SYS_getuid32 | mark), "c"(0), "d"(0), "b"(0), "S"(by_syscall()) : "memory");
	note("%ld ", result);
}

static uint32_t own_stack[64];

static void watch_mov_ss(void)
{
	under_watch(mov_ss_then_sysenter, (uintptr_t)&watched, 3);
}

static void six_on_own_stack(void)
{
	struct call c = CALL(SYS_mmap2, 0, 0, 0, 0, 0, (uintptr_t)&own_stack[32]);

	/* returns by the pad into raw_stub's ud2, which ends this process */
	own_stack[35] = (uintptr_t)raw_stub_sysenter + 2;
	enter_raw(&c);
}

static void watch_sixth_argument(void)
{
	under_watch(six_on_own_stack, (uintptr_t)&own_stack[32], 3);
}

/* --- the landing pad moves ------------------------------------------------------- */

#define VDSO_SIZE	8192

static char *move_vdso(char *vdso, char *to)
{
	return (char *)call(SYS_mremap, vdso, VDSO_SIZE, VDSO_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
}

/* The vDSO, and the landing pad in it, moves while a program uses it. */
static void vdso_moves(void)
{
	char *vdso = (char *)getauxval(AT_SYSINFO_EHDR), *to;

	to = mmap(NULL, 16384, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	call(SYS_getuid32);
	note("%s ", move_vdso(vdso, to) == to ? "moved" : "not moved");
	note("%ld ", call(SYS_getuid32));
	note("%ld ", call(SYS_getuid32));
	call(SYS_exit_group, 7);	/* not by libc, which still has the old address */
}

/*
 * Another thread moves the vDSO while this one is in user mode. The frame of its last call, with
 * the old address in it, is still on its stack.
 */
static char *volatile vdso_at, *volatile vdso_to;
static volatile int moves_wanted, moves_made;

static int mover(void *unused)
{
	(void)unused;
	for (;;) {
		long result;

		while (moves_made == moves_wanted)
			;
		/* by int $0x80, because this thread must not use a landing pad itself */
		asm volatile("pushl %%ebx; movl %[from], %%ebx; int $0x80; popl %%ebx"
			     : "=a"(result)
			     : "0"(SYS_mremap), [from] "r"(vdso_at), "c"(VDSO_SIZE), "d"(VDSO_SIZE),
			       "S"(MREMAP_MAYMOVE | MREMAP_FIXED), "D"(vdso_to) : "memory");
		vdso_to = vdso_at;
		vdso_at = (char *)result;
		moves_made++;
	}
	return 0;
}

static void vdso_moved_by_thread(void)
{
	long wrong = 0, uid = syscall(SYS_getuid32);

	vdso_at = (char *)getauxval(AT_SYSINFO_EHDR);
	vdso_to = mmap(NULL, VDSO_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	start_thread(mover);
	for (int i = 0; i < 500; i++) {
		wrong += call(SYS_getuid32) != uid;	/* leaves its frame */
		moves_wanted++;
		while (moves_made != moves_wanted)
			;				/* in user mode */
		wrong += call(SYS_getuid32) != uid;
	}
	note("moves %d wrong %ld ", moves_made, wrong);
	call(SYS_exit_group, 7);
}

HAZARDS(
	{ "LDT entry gone while inside", "fs_taken_away", fs_taken_away, 0 },
	{ "16-bit code segment", "code_segment_16", code_segment_16, 0 },
	{ "bad ebp", "bad_ebp", bad_ebp, 0 },
	{ "bad ebp", "sixth_argument_unreadable", sixth_argument_unreadable, 0 },
	{ "sixth argument", "sixth_argument_faults_in", sixth_argument_faults_in, 0 },
	{ "watchpoint that the entry hits", "watch_sixth_argument", watch_sixth_argument, 0 },
	{ "MOV SS, then SYSENTER", "watch_mov_ss", watch_mov_ss, 0 },
	{ "sixth argument by userfaultfd", "sixth_argument_by_userfaultfd", sixth_argument_by_userfaultfd, 1 },
	{ "landing pad moves", "vdso_moves", vdso_moves, 0 },
	{ "landing pad moves", "vdso_moved_by_thread", vdso_moved_by_thread, 0 }
)
