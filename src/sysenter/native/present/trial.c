// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Does this processor execute the instruction? CPUID and the vendor's name do not prove it: a
 * virtual machine may show those of a processor other than the one underneath. Programs would
 * then be killed by SIGILL. So execute it once.
 */
#include "sysenter.h"
#include <linux/irqflags.h>
#include <asm/msr.h>
#include <asm/segment.h>

/* trial_once.S */
asmlinkage bool sysenter_trial(void);
asmlinkage bool sysenter_trial_syscall(void);
extern const char sysenter_trial_landing[], sysenter_trial_syscall_landing[];

#define MSR_NOBODYS	0xc001ffff		/* in AMD's range; no processor has it */

/*
 * An AMD processor under the name of another vendor? Its KVM answers for VM_CR, of SVM, and
 * Intel's does not (svm_get_msr() and kvm_get_msr_common() in arch/x86/kvm/). What answers
 * for any MSR (an emulator, KVM's ignore_msrs) tells nothing.
 *
 * HAZARD: there SYSENTER must not be tried at CPL 0 in 64-bit mode. By the vendor's name
 * the instruction is valid, so KVM gives the invalid instruction to its emulator. That has
 * no SYSENTER for 64-bit mode, and KVM stops the virtual machine for good
 * (KVM_EXIT_INTERNAL_ERROR). At CPL 3 the program would get #UD.
 */
static bool __init amds_by_another_name(void)
{
	u32 low, high;

	return IS_ENABLED(CONFIG_X86_64) && !rdmsr_safe(MSR_VM_CR, &low, &high) &&
	       rdmsr_safe(MSR_NOBODYS, &low, &high);
}

bool __init sysenter_executes(void)
{
	u64 landing = (unsigned long)sysenter_trial_landing;
	unsigned long flags;
	bool executed;
	u32 low, high;

	if (amds_by_another_name())
		return false;
	local_irq_save(flags);
	rdmsr(MSR_IA32_SYSENTER_EIP, low, high);
	wrmsr(MSR_IA32_SYSENTER_EIP, (u32)landing, (u32)(landing >> 32));
	executed = sysenter_trial();
	wrmsr(MSR_IA32_SYSENTER_EIP, low, high);
	local_irq_restore(flags);
	return executed;
}

#ifdef CONFIG_X86_32
/* SYSCALL in legacy mode. The caller has set EFER.SCE. */
bool __init sysenter_executes_syscall(void)
{
	unsigned long flags;
	bool executed;
	u32 low, high;

	local_irq_save(flags);
	rdmsr(MSR_STAR, low, high);
	wrmsr(MSR_STAR, (u32)sysenter_trial_syscall_landing, __KERNEL_CS);
	executed = sysenter_trial_syscall();
	wrmsr(MSR_STAR, low, high);
	local_irq_restore(flags);
	return executed;
}
#endif
