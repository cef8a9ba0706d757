/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the module's C files. */
#ifndef SYSENTER_MODULE_H
#define SYSENTER_MODULE_H

#define MSR_SYSENTER_CS		0x174
#define MSR_SYSENTER_ESP	0x175
#define MSR_SYSENTER_EIP	0x176

extern struct desc_struct *sysenter_gdt_table;

struct table_register {
	unsigned short limit;
	unsigned long base __attribute__((packed));
} __attribute__((packed));

/* What a processor keeps all its life: TR, LDTR, and TR's TSS. */
struct cpu_tables { unsigned long tr, ldt, tss; };

/* main.c: where something of entry.S's is in the copy that runs */
unsigned long sysenter_in_copy(const void *symbol);
int sysenter_is_in_copy(unsigned long address);

/* taskgate.c */
#if LINUX_2_2	/* without entry by SYSCALL */
static __inline__ int sysenter_has_syscall(void) { return 0; }
static __inline__ int sysenter_gates_make(int cpus, const struct cpu_tables *tables) { return 0; }
static __inline__ void sysenter_gates_free(void) { }
static __inline__ void sysenter_syscall_on(int cpu) { }
static __inline__ void sysenter_syscall_off(int cpu) { }
#else
int sysenter_has_syscall(void);
int sysenter_gates_make(int cpus, const struct cpu_tables *tables);
void sysenter_gates_free(void);
unsigned long sysenter_gate_steps(void);
void sysenter_syscall_on(int cpu);
void sysenter_syscall_off(int cpu);
#endif

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
