// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Entry by AMD's SYSCALL (syscall_i386.S): decide whether it is used, and set its MSRs.
 *
 * A 32-bit kernel leaves EFER.SCE off, because SYSCALL does not set ESP. taskgate_i386.c
 * makes that harmless.
 */
#include "sysenter.h"
#include "compat.h"
#include "frame.h"
#include <linux/cpumask.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/smp.h>
#include <asm/cpu_entry_area.h>
#include <asm/cpufeature.h>
#include <asm/segment.h>

static char *entry = "auto";
module_param(entry, charp, 0444);
MODULE_PARM_DESC(entry, "auto (SYSENTER where there is one), sysenter or syscall");

bool sysenter_by_syscall;

/* The two patch sites in each per-CPU stub: they take addresses of that CPU's data. */
extern const struct {
	unsigned long sp1, entry_stack;
} sysenter_stub_patch_sites[NR_CPUS];

static DEFINE_PER_CPU(u64, stock_star);

static unsigned long stub(unsigned int cpu)
{
	return (unsigned long)sysenter_syscall_stubs + cpu * SYSENTER_STUB_SIZE;
}

/*
 * CPUID is not enough. Intel's processors have the instruction in 64-bit mode only. An
 * emulator may keep EFER.SCE off in a 32-bit machine, or show a vendor's name that is not
 * that of the processor underneath. So turn EFER.SCE on and try.
 */
static bool __init has_syscall(void)
{
	u64 efer, now = 0;

	if (!boot_cpu_has(X86_FEATURE_SYSCALL) ||
	    (boot_cpu_data.x86_vendor != X86_VENDOR_AMD && boot_cpu_data.x86_vendor != X86_VENDOR_HYGON))
		return false;
	preempt_disable();
	if (!rdmsrq_safe(MSR_EFER, &efer) && !wrmsrq_safe(MSR_EFER, efer | EFER_SCE)) {
		rdmsrq_safe(MSR_EFER, &now);
		if (now & EFER_SCE && !sysenter_executes_syscall())
			now = 0;
		wrmsrq_safe(MSR_EFER, efer);
	}
	preempt_enable();
	return now & EFER_SCE;
}

int __init sysenter_choose(void)
{
	bool sep = boot_cpu_has(X86_FEATURE_SEP), automatic = !strcmp(entry, "auto");

	sysenter_by_syscall = !strcmp(entry, "syscall") || (automatic && !sep);
	if (!automatic && !sysenter_by_syscall && strcmp(entry, "sysenter")) {
		pr_err("refused: entry=%s; it can be auto, sysenter or syscall\n", entry);
		return -EINVAL;
	}
	if (!sysenter_by_syscall && !sep) {
		pr_err("refused: this processor has no SYSENTER; leave out entry=sysenter\n");
		return -ENODEV;
	}
	if (!sysenter_by_syscall) {
		if (sysenter_executes())
			return 0;
		pr_err("refused: SYSENTER faults on this processor, which says that it has it (a virtual machine on another?)\n");
		return -ENODEV;
	}
	if (sysenter_scope_all) {
		pr_err("refused: scope=all or both, and entry by SYSCALL: no program of a 32-bit kernel calls by that unless it is made to; scope=marked works here\n");
		return -EOPNOTSUPP;
	}
	if (!has_syscall()) {
		pr_err("refused: this processor has no %sSYSCALL for 32-bit kernels\n",
		       sep ? "" : "SYSENTER and no ");
		return -ENODEV;
	}
#if defined(CONFIG_VM86)
	pr_err("refused: SYSCALL works from vm86 mode, and this kernel has it (CONFIG_X86_LEGACY_VM86)\n");
	return -EOPNOTSUPP;
#endif
#ifdef X86_FEATURE_CLEAR_CPU_BUF
	if (boot_cpu_has(X86_FEATURE_CLEAR_CPU_BUF)) {
		int error = sysenter_lacks("clears CPU buffers on each exit (mds: boot with mds=off)");

		if (error)
			return error;
	}
#endif
	return 0;
}

static void switch_off(void *unused)
{
	if (sysenter_syscall_read() == sysenter_entry_point)
		sysenter_syscall_write(kernel_stock_entry);
}

/*
 * HAZARD: kexec. The next kernel does not know that EFER.SCE is on. A SYSCALL would then
 * enter at an address of this module, at CPL 0. So switch it off: a late SYSCALL is SIGILL.
 */
static int before_restart(struct notifier_block *block, unsigned long event, void *command)
{
	on_each_cpu(switch_off, NULL, 1);
	return NOTIFY_DONE;
}

static struct notifier_block restart = {
	.notifier_call = before_restart,
	.priority = INT_MIN,
};

void sysenter_syscall_undo(void)
{
	unregister_reboot_notifier(&restart);
	sysenter_gates_close();
}

/* Nothing runs this code yet. */
int __init sysenter_syscall_prepare(void)
{
	struct cpu_entry_area *(*area_of)(int) = (void *)kernel_get_cpu_entry_area;
	size_t size = sysenter_leave_syscall_end - sysenter_leave_syscall;
	unsigned int cpu;
	int error;

	if (sysenter_leave[2] != sysenter_leave[3] || size > sysenter_leave[1] - sysenter_leave[0]) {
		pr_err("refused: the SYSRET exit does not fit over the SYSEXIT exit; this build is broken\n");
		return -ENOEXEC;
	}
	for_each_possible_cpu(cpu) {
		struct cpu_entry_area *area = area_of(cpu);
		u32 sp1 = (u32)&area->tss.x86_tss.sp1;
		u32 entry_stack = (u32)(&area->entry_stack_page.stack + 1);

		error = sysenter_poke(sysenter_stub_patch_sites[cpu].sp1, &sp1, sizeof(sp1)) ?:
			sysenter_poke(sysenter_stub_patch_sites[cpu].entry_stack, &entry_stack,
				      sizeof(entry_stack));
		if (error)
			return error;
	}
	error = sysenter_poke(sysenter_leave[0], sysenter_leave_syscall, size) ?: sysenter_gates_open();
	if (error)
		return error;
	error = sysenter_fault() ?: register_reboot_notifier(&restart);
	if (error) {
		sysenter_gates_close();
		return error;
	}
	pr_info("entry by SYSCALL; #DB, NMI and #MC go through task gates\n");
	return 0;
}

unsigned long sysenter_syscall_read(void)
{
	u64 efer, star;

	rdmsrq(MSR_EFER, efer);
	if (!(efer & EFER_SCE))
		return kernel_stock_entry;
	rdmsrq(MSR_STAR, star);
	return (u32)star == stub(smp_processor_id()) ? sysenter_entry_point : 0;
}

/* STAR also has SYSRET's selectors. In legacy mode CS = STAR[63:48], SS = that + 8 (AMD APM Vol. 3). */
void sysenter_syscall_write(unsigned long target)
{
	u64 efer;

	rdmsrq(MSR_EFER, efer);
	if (target == kernel_stock_entry) {
		wrmsrq(MSR_EFER, efer & ~EFER_SCE);
		wrmsrq(MSR_STAR, this_cpu_read(stock_star));
	} else {
		u64 star;

		rdmsrq(MSR_STAR, star);
		this_cpu_write(stock_star, star);
		wrmsrq(MSR_STAR, (u64)__USER_CS << 48 | (u64)__KERNEL_CS << 32 | stub(smp_processor_id()));
		wrmsrq(MSR_EFER, efer | EFER_SCE);
	}
}
