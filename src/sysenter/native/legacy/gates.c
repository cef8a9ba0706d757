/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Vectors 1 and 2. A #DB or an NMI at the entry's first instructions goes to a handler in
 * entry.S, and from there to the kernel's handler.
 */
#include <linux/config.h>
#include <linux/version.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include "legacy.h"
#include "module.h"

struct gate { unsigned long low, high; };

extern char sysenter_debug[], sysenter_nmi[];
extern unsigned long sysenter_kernel_debug, sysenter_kernel_nmi;

static struct gate *idt_table;
static struct gate kernel_gates[3];

void sysenter_find_idt(void)
{
	struct table_register idt;

	__asm__ __volatile__("sidt %0" : "=m" (idt));
	idt_table = (struct gate *)idt.base;
}

unsigned long sysenter_gate_target(int vector)
{
	return (idt_table[vector].low & 0xffff)
		| (idt_table[vector].high & 0xffff0000);
}

/* An interrupt gate (type 14) or a trap gate (15)? */
int sysenter_gate_has_target(int vector)
{
	return (idt_table[vector].high & 0x1e00) == 0x0e00;
}

/* One 8-byte store, because another processor may use the vector at this moment. Every
   processor with SYSENTER has CMPXCHG8B. */
static void set_gate(struct gate *at, struct gate to)
{
	struct gate old = *at;

	__asm__ __volatile__("1: lock; cmpxchg8b (%%esi)\n\t"
			     "jnz 1b"
			     : "+a" (old.low), "+d" (old.high)
			     : "b" (to.low), "c" (to.high), "S" (at)
			     : "memory", "cc");
}

static void set_gate_target(int vector, unsigned long target)
{
	struct gate gate = idt_table[vector];

	gate.low = (gate.low & 0xffff0000) | (target & 0xffff);
	gate.high = (gate.high & 0xffff) | (target & 0xffff0000);
	set_gate(&idt_table[vector], gate);
}

void sysenter_take_vectors(void)
{
	kernel_gates[1] = idt_table[1];
	kernel_gates[2] = idt_table[2];
	COPY_OF(sysenter_kernel_debug) = sysenter_gate_target(1);
	COPY_OF(sysenter_kernel_nmi) = sysenter_gate_target(2);
	if (sysenter_way->takes_debug)
		set_gate_target(1, sysenter_in_copy(sysenter_debug));
	if (sysenter_way->takes_nmi)
		set_gate_target(2, sysenter_in_copy(sysenter_nmi));
}

/* Has another module replaced our gates since? */
int sysenter_has_vectors(void)
{
	return (!sysenter_way->takes_debug
		|| sysenter_gate_target(1) == sysenter_in_copy(sysenter_debug))
		&& (!sysenter_way->takes_nmi
		    || sysenter_gate_target(2) == sysenter_in_copy(sysenter_nmi));
}

void sysenter_give_vectors_back(void)
{
	if (sysenter_way->takes_debug)
		set_gate(&idt_table[1], kernel_gates[1]);
	if (sysenter_way->takes_nmi)
		set_gate(&idt_table[2], kernel_gates[2]);
}
