/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Constants for entry.S, from the headers of the kernel that the module is for: the
 * offsets of members differ with version, SMP and vendor.
 *
 * This file is only compiled to assembly. Every line "->NAME VALUE" becomes a #define in
 * offsets.h:
 *
 *   sed -n 's/.*->\([A-Z0-9_]*\) [$]*\(-*[0-9]*\).*$/#define \1 \2/p'
 */
#include <linux/config.h>
#include <linux/version.h>
#include <linux/sched.h>
#include <linux/sys.h>
#include <linux/errno.h>
#include <linux/interrupt.h>
#include <asm/ptrace.h>
#include <asm/segment.h>
#include "legacy.h"
#include "taskgate.h"

#define DEFINE(name, value) \
	__asm__ __volatile__("\n->" #name " %0" : : "i" (value))
#define OFFSET(name, type, member) \
	DEFINE(name, (long)&((type *)0)->member)

int main(void)
{
	OFFSET(PT_EBX, struct pt_regs, ebx);
	OFFSET(PT_ESI, struct pt_regs, esi);
	OFFSET(PT_EDI, struct pt_regs, edi);
	OFFSET(PT_EAX, struct pt_regs, eax);
	OFFSET(PT_DS, struct pt_regs, xds);
	OFFSET(PT_ES, struct pt_regs, xes);
	OFFSET(PT_EIP, struct pt_regs, eip);
	OFFSET(PT_EFLAGS, struct pt_regs, eflags);
	OFFSET(PT_OLDESP, struct pt_regs, esp);
	DEFINE(PT_SIZE, sizeof(struct pt_regs));

	OFFSET(TASK_NEED_RESCHED, struct task_struct, need_resched);
	OFFSET(TASK_SIGPENDING, struct task_struct, sigpending);
#ifdef PT_TRACESYS
	OFFSET(TASK_TRACE, struct task_struct, ptrace);
	DEFINE(TRACE_IS_PTRACE, 1);
#else						/* before 2.2.20 */
	OFFSET(TASK_TRACE, struct task_struct, flags);
	DEFINE(TRACE_MASK, PF_TRACESYS);
#endif
#if LINUX_2_2
	OFFSET(TASK_TSS_ESP0, struct task_struct, tss.esp0);
#endif
#if defined(SYSENTER_SMP) && (LINUX_2_2 || defined(softirq_mask))
	OFFSET(TASK_CPU, struct task_struct, processor);	/* or cpu, later */
#endif
#ifdef softirq_mask				/* 2.4.0 to 2.4.6: the exit asks */
	OFFSET(SOFTIRQ_ACTIVE, irq_cpustat_t, __softirq_active);
	OFFSET(SOFTIRQ_MASK, irq_cpustat_t, __softirq_mask);
	DEFINE(IRQ_STAT_SHIFT, CONFIG_X86_L1_CACHE_SHIFT);
#endif
#if !LINUX_2_2
	OFFSET(TSS_ESP0, struct tss_struct, esp0);
	DEFINE(CPUS_MAX, NR_CPUS);
	OFFSET(HW_EIP, struct hw_tss, eip);
	OFFSET(HW_EFLAGS, struct hw_tss, eflags);
	OFFSET(HW_EBX, struct hw_tss, ebx);
	OFFSET(HW_ESP, struct hw_tss, esp);
	OFFSET(GATE_CPU, struct gate_task, cpu);
	DEFINE(GATE_BYTES, GATE_TASK_BYTES);
	OFFSET(CPU_PENDING, struct cpu_gates, pending);
	OFFSET(CPU_SPARE, struct cpu_gates, spare);
	OFFSET(CPU_SPARE_SELECTOR, struct cpu_gates, spare_selector);
	OFFSET(RESUME_PENDING, struct gate_resume, pending);
#endif
	DEFINE(THREAD_BYTES, SYSENTER_THREAD_SIZE);
	DEFINE(USER_LIMIT, TASK_SIZE);
	DEFINE(KERNEL_CS_SEL, __KERNEL_CS);
	DEFINE(USER_CS_SEL, __USER_CS);
	DEFINE(USER_DS_SEL, __USER_DS);
	DEFINE(NR_CALLS, NR_syscalls);
	DEFINE(MINUS_EFAULT, -EFAULT);
	return 0;
}
