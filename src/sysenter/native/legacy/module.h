/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the module's C files. */
#ifndef SYSENTER_MODULE_H
#define SYSENTER_MODULE_H

#define MSR_SYSENTER_CS		0x174
#define MSR_SYSENTER_ESP	0x175
#define MSR_SYSENTER_EIP	0x176

extern struct desc_struct *sysenter_gdt_table;

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
