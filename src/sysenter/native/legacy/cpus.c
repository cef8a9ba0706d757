/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each processor has; and how to hold all processors but one.
 */
#include <linux/config.h>
#include <linux/version.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <asm/bitops.h>
#include <asm/system.h>
#include <asm/processor.h>
#include <asm/segment.h>
#include <asm/ptrace.h>
#include <asm/desc.h>
#include <asm/atomic.h>
#include "legacy.h"
#include "module.h"

#define EFLAGS_ID 0x00200000

struct desc_struct *sysenter_gdt_table;
struct cpu_report sysenter_cpus[NR_CPUS];

/* The address of the TSS that TR points to. */
unsigned long sysenter_this_tss(void)
{
	unsigned long tr;
	struct desc_struct *d;

	__asm__ __volatile__("xorl %0,%0; str %w0" : "=r" (tr));
	d = &sysenter_gdt_table[tr >> 3];
	return (d->a >> 16) | (d->b & 0xff) << 16 | (d->b & 0xff000000);
}

static int has_cpuid(void)
{
	unsigned long before, after;

	__asm__ __volatile__(
		"pushfl; popl %0; movl %0,%1; xorl %2,%0; pushl %0; popfl\n\t"
		"pushfl; popl %0; pushl %1; popfl"
		: "=&r" (after), "=&r" (before) : "i" (EFLAGS_ID));
	return ((before ^ after) & EFLAGS_ID) != 0;
}

static void report_cpu(void *unused)
{
	struct cpu_report *r = &sysenter_cpus[THIS_CPU];
	struct table_register gdt, idt;
	unsigned int eax, ebx, ecx, edx;
	unsigned int family, model, stepping;
	int i, intel;

	r->has_sep = r->has_syscall = 0;
	if (has_cpuid()) {
		__asm__ __volatile__("cpuid" : "=a" (eax), "=b" (ebx),
				     "=c" (ecx), "=d" (edx) : "0" (0));
		intel = ebx == 0x756e6547;		/* Genu(ineIntel) */
		__asm__ __volatile__("cpuid" : "=a" (eax), "=b" (ebx),
				     "=c" (ecx), "=d" (edx) : "0" (1));
		family = eax >> 8 & 15;
		model = eax >> 4 & 15;
		stepping = eax & 15;
		r->signature = eax;
		/* The first Pentium Pros report the bit and lack the instruction:
		   SDM, CPUID, "Identification of SYSENTER". The first Athlons have the
		   same family and models, and the instruction. */
		r->has_sep = (edx & 1 << 11) != 0
			&& !(intel && family == 6 && model < 3 && stepping < 3);
		r->has_syscall = sysenter_has_syscall();
	}
	if (r->has_sep)
		r->msr_cs = sysenter_read_msr(MSR_SYSENTER_CS);
	__asm__ __volatile__("sgdt %0" : "=m" (gdt));
	__asm__ __volatile__("sidt %0" : "=m" (idt));
	r->gdt = gdt.base;
	r->idt = idt.base;
	sysenter_gdt_table = (struct desc_struct *)gdt.base;
	for (i = 0; i < 4; i++)
		r->flat[i] = (sysenter_gdt_table[(__KERNEL_CS >> 3) + i].a
			      == 0x0000ffff)
			&& (sysenter_gdt_table[(__KERNEL_CS >> 3) + i].b
			    & 0xffcffeff) == 0x00cf9200
			+ (i >= 2 ? 0x6000 : 0) + (i % 2 ? 0 : 0x0800);
	r->tss = sysenter_this_tss();
	r->tss_esp0 = ((unsigned long *)r->tss)[1];
	__asm__ __volatile__("xorl %0,%0; str %w0" : "=r" (r->tr));
	__asm__ __volatile__("xorl %0,%0; sldt %w0" : "=r" (r->ldt));
	r->seen = 1;
}

/* Choose the instruction. All processors must have it. entry: the module option. */
static int choose_entry(const char *entry, int with_sep, int with_syscall,
			int *by_syscall)
{
	int automatic = !entry || strcmp(entry, "auto") == 0, with;

	if (!automatic && strcmp(entry, "sysenter") && strcmp(entry, "syscall"))
		REFUSE("entry=%.40s: not auto, sysenter or syscall\n", entry);
	*by_syscall = automatic ? !with_sep && with_syscall
		: strcmp(entry, "syscall") == 0;
#if LINUX_2_2
	if (*by_syscall)
		REFUSE("entry=syscall: this is for 2.4\n");
#endif
	with = *by_syscall ? with_syscall : with_sep;
	if (with == 0)
		REFUSE("this processor has no %s%s (CPUID 0x%x)\n",
		       *by_syscall ? "SYSCALL for 32-bit kernels" : "SYSENTER",
		       automatic ? " and no SYSCALL for this kernel" : "",
		       sysenter_cpus[THIS_CPU].signature);
	if (with != CPUS)
		REFUSE("only %d of %d processors have %s\n", with, CPUS,
		       *by_syscall ? "SYSCALL" : "SYSENTER");
	return 0;
}

int sysenter_check_cpus(const char *entry, int *by_syscall)
{
	const struct cpu_report *r, *here = &sysenter_cpus[THIS_CPU];
	int seen = 0, with = 0, with_syscall = 0;

	memset(sysenter_cpus, 0, sizeof(sysenter_cpus));
	report_cpu(NULL);
#ifdef SYSENTER_SMP
	if (CPUS > 1 && smp_call_function(report_cpu, NULL, 1, 1) != 0)
		REFUSE("a processor does not answer\n");
#endif
	/* 2.2 numbers them as their APICs, with gaps. */
	for (r = sysenter_cpus; r < sysenter_cpus + NR_CPUS; r++) {
		seen += r->seen;
		with += r->has_sep;
		with_syscall += r->has_syscall;
	}
	if (seen != CPUS)
		REFUSE("only %d of %d processors answer\n", seen, CPUS);
	if (choose_entry(entry, with, with_syscall, by_syscall))
		return -EINVAL;
	for (r = sysenter_cpus; r < sysenter_cpus + NR_CPUS; r++) {
		if (!r->seen)
			continue;
		if (r->msr_cs)
			REFUSE("this kernel uses SYSENTER itself "
			       "(SYSENTER_CS is 0x%lx)\n", r->msr_cs);
		if (r->idt != here->idt || r->gdt != here->gdt)
			REFUSE("the processors' GDTs or IDTs differ\n");
		if (!(r->flat[0] && r->flat[1] && r->flat[2] && r->flat[3]))
			REFUSE("segments 0x%x to 0x%x are not the flat ones "
			       "that SYSENTER and SYSEXIT load\n", __KERNEL_CS,
			       __USER_DS);
	}
	return 0;
}

/* ---- one alone ------------------------------------------------------------ */

/* Hold all other processors, with interrupts off, while this one makes a change that
   none of them must see half done. */
struct held_cpu sysenter_held[NR_CPUS];
static void (*volatile on_release)(void);	/* run by each held processor at its end */

#ifdef SYSENTER_SMP
static volatile int hold_state;			/* HOLD, then RELEASE */
enum { HOLD = 1, RELEASE };
static atomic_t held, released;

/* HAZARD: what a held processor was doing may have a lock (tasklist_lock, waitqueue_lock),
   for which another processor waits with interrupts off, or this one in a bottom half. That
   one is not held before the lock is free. So a held processor waits for a few milliseconds,
   and gives up; then all of it is tried again. Whoever sets `settled` first decides: a held
   processor that gives up, or the one that holds, once it has interrupts off. */
static unsigned long settled;
#define PATIENCE 200000				/* rounds */
#define TRIES 100

static void hold_this_cpu(void *unused)
{
	int cpu = THIS_CPU, rounds = PATIENCE;

	sysenter_held[cpu].esp = (unsigned long)&cpu;
	sysenter_held[cpu].task = current;
	mb();
	atomic_inc(&held);
	while (hold_state == HOLD) {
		if (--rounds == 0 && !test_and_set_bit(0, &settled))
			hold_state = RELEASE;
		__asm__ __volatile__("rep; nop" : : : "memory");
	}
	if (on_release)
		on_release();
	/* Text may have changed. The IRET of this interrupt serializes. */
	atomic_inc(&released);
}

/* 0 with interrupts off, or -EBUSY; then none is held any more. */
static int try_to_hold(unsigned long *flags)
{
	int others = CPUS - 1;

	memset(sysenter_held, 0, sizeof(sysenter_held));
	atomic_set(&held, 0);
	atomic_set(&released, 0);
	settled = 0;
	hold_state = HOLD;
	mb();
	/* No retry: 2.2 would sleep, and unloading holds a spinlock. */
	if (others && smp_call_function(hold_this_cpu, NULL, 0, 0) != 0) {
		/* 2.2: not sent, or some have not come within a second */
		hold_state = RELEASE;
		others = atomic_read(&held);
	}
	while (hold_state == HOLD && atomic_read(&held) != others)
		__asm__ __volatile__("rep; nop" : : : "memory");
	__save_flags(*flags);
	__cli();
	if (hold_state == HOLD && !test_and_set_bit(0, &settled))
		return 0;
	__restore_flags(*flags);
	hold_state = RELEASE;
	while (atomic_read(&released) < others)
		__asm__ __volatile__("rep; nop" : : : "memory");
	return -EBUSY;
}
#endif

int sysenter_hold_others(unsigned long *flags)
{
#ifdef SYSENTER_SMP
	int tries = TRIES;

	on_release = NULL;
	while (try_to_hold(flags))
		if (--tries == 0)
			return -EBUSY;
#else
	memset(sysenter_held, 0, sizeof(sysenter_held));
	__save_flags(*flags);
	__cli();
#endif
	/* Of this processor's own stack only the frame of the system call counts. */
	sysenter_held[THIS_CPU].esp = (unsigned long)current
		+ SYSENTER_THREAD_SIZE - sizeof(struct pt_regs) - sizeof(long);
	sysenter_held[THIS_CPU].task = current;
	return 0;
}

/* Let them go. Each of them, and this one, runs WHAT first. */
void sysenter_release_others(void (*what)(void), unsigned long flags)
{
	on_release = what;
#ifdef SYSENTER_SMP
	mb();
	hold_state = RELEASE;
#endif
	if (what)
		what();
#ifdef SYSENTER_SMP
	while (atomic_read(&released) != CPUS - 1)
		__asm__ __volatile__("rep; nop" : : : "memory");
#endif
	__restore_flags(flags);
}

/* ---- the MSRs of this processor ----------------------------------------------- */

void sysenter_write_msrs(unsigned long stack)
{
	sysenter_write_msr(MSR_SYSENTER_ESP, stack);
	sysenter_write_msr(MSR_SYSENTER_EIP, sysenter_entry_point);
	sysenter_write_msr(MSR_SYSENTER_CS, __KERNEL_CS);
}

/* With SYSENTER_CS = 0, SYSENTER is a #GP again, as before the load. */
void sysenter_clear_msrs(void)
{
	sysenter_write_msr(MSR_SYSENTER_CS, 0);
	sysenter_write_msr(MSR_SYSENTER_EIP, 0);
	sysenter_write_msr(MSR_SYSENTER_ESP, 0);
}
