/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by the module's C files.
 *
 *	main.c		options, load and unload
 *	guard.c		is this the kernel that it was built for
 *	cpus.c		what each processor has; holding all but one
 *	gates.c		vectors 1 and 2
 *	way_*.c		the ways to the task's kernel stack, each a struct way
 *	taskgate.c	entry by SYSCALL (2.4)
 *	copy.c		the page that entry.S runs in
 *	unload.c	is a task in it
 *	proc.c		/proc/sysenter
 */
#ifndef SYSENTER_MODULE_H
#define SYSENTER_MODULE_H

#include <linux/kernel.h>
#include <linux/errno.h>
#include <linux/sched.h>
#include <linux/smp.h>

#define MSR_SYSENTER_CS		0x174
#define MSR_SYSENTER_ESP	0x175
#define MSR_SYSENTER_EIP	0x176

#define NAME "sysenter: "
#define REFUSE(args...) \
	do { printk(KERN_ERR NAME args); return -EINVAL; } while (0)

#ifdef SYSENTER_SMP
#define CPUS smp_num_cpus
#define THIS_CPU smp_processor_id()
#else
#define CPUS 1
#define THIS_CPU 0
#endif

/*
 * A way from SYSENTER or SYSCALL to the task's kernel stack. A member that a way does not
 * need is NULL or 0.
 */
struct way {
	const char *name;
	/* in entry.S: where the instruction enters, and where a call that came with TF
	   continues */
	char *entry, *trapped;
	int takes_debug;	/* needs vector 1: #DB before the first instruction */
	int takes_nmi;		/* needs vector 2: NMI on an entry stack */
	/* 0 or an error, whose reason is in the log */
	int (*check)(void);
	/* Allocate, and tell entry.S (which is copied already) what it must know. */
	int (*prepare)(void);
	void (*free)(void);
	/* Each processor runs these, interrupts off. */
	void (*turn_on)(void);
	void (*turn_off)(void);
	/* Write into the kernel's text while all other processors are held. busy: a
	   processor was stopped within those bytes. */
	int (*busy)(void);
	void (*patch)(void);
	void (*unpatch)(void);
	/* Code outside of the copy that a task may still have to return through. */
	char *code, *code_end;
	unsigned long (*calls)(int cpu);	/* the count since the load */
	int (*report)(char *page);		/* more lines for /proc/sysenter */
};

extern const struct way *sysenter_way;		/* the chosen one */
#if LINUX_2_2
extern const struct way sysenter_way_cruel, sysenter_way_gentle;
extern const struct way sysenter_way_gentle_global;
#else
extern const struct way sysenter_way_tss, sysenter_way_syscall;
#endif

extern struct desc_struct *sysenter_gdt_table;

struct table_register {
	unsigned short limit;
	unsigned long base __attribute__((packed));
} __attribute__((packed));

/* guard.c */
int sysenter_check_kernel(void);

/* cpus.c */
struct cpu_report {
	int seen;
	int has_sep, has_syscall;
	unsigned long msr_cs, idt, gdt, tss_esp0;
	unsigned long tr, ldt, tss;	/* a processor never changes these */
	unsigned long flat[4];
	unsigned int signature;
};
extern struct cpu_report sysenter_cpus[NR_CPUS];

/* Where a held processor was stopped. task is NULL if it is not held. */
struct held_cpu { unsigned long esp; struct task_struct *task; };
extern struct held_cpu sysenter_held[NR_CPUS];

int sysenter_check_cpus(const char *entry, int *by_syscall);
unsigned long sysenter_this_tss(void);
int sysenter_hold_others(unsigned long *flags);
void sysenter_release_others(void (*what)(void), unsigned long flags);
void sysenter_write_msrs(unsigned long stack);
void sysenter_clear_msrs(void);

/* gates.c */
void sysenter_find_idt(void);
unsigned long sysenter_gate_target(int vector);
int sysenter_gate_has_target(int vector);
void sysenter_take_vectors(void);
int sysenter_has_vectors(void);
void sysenter_give_vectors_back(void);

/* copy.c */
extern unsigned long sysenter_entry_point;
unsigned long sysenter_in_copy(const void *symbol);
int sysenter_is_in_copy(unsigned long address);
int sysenter_copy_text(void);
void sysenter_free_copy(void);
#define COPY_OF(symbol) (*(unsigned long *)sysenter_in_copy(&(symbol)))

/* unload.c */
int sysenter_stack_has(struct task_struct *task, unsigned long esp,
		       unsigned long low, unsigned long high);
int sysenter_in_use(void);

/* proc.c */
void sysenter_show_report(void);
void sysenter_hide_report(void);

/* way_tss.c: what entry by SYSCALL has in common with it */
int sysenter_tss_check(void);
int sysenter_tss_prepare(void);
unsigned long sysenter_tss_calls(int cpu);

/* taskgate.c */
#if LINUX_2_2
static __inline__ int sysenter_has_syscall(void) { return 0; }
#else
int sysenter_has_syscall(void);
#endif

extern unsigned long sysenter_slow_call[];

static __inline__ void sysenter_write_msr(unsigned int msr, unsigned long value)
{
	__asm__ __volatile__("wrmsr" : : "c" (msr), "a" (value), "d" (0));
}

static __inline__ unsigned long sysenter_read_msr(unsigned int msr)
{
	unsigned long low, high;

	__asm__ __volatile__("rdmsr" : "=a" (low), "=d" (high) : "c" (msr));
	return low;
}

#endif
