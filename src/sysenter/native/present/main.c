// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * sysenter: a faster system-call entry beside the kernel's own.
 *
 * The order of loading: the guard, the tables, the entry code, and at last the SYSENTER
 * registers of each CPU. A step that fails undoes the steps before it.
 *
 * The parameter scope says whose calls take the fast path. `marked': calls of programs that
 * ask for it (abi.h). `all': the unmodified calls of every program. `both': all of these.
 */
#include "sysenter.h"
#include "compat.h"
#include <linux/cpu.h>
#include <linux/delay.h>
#include <linux/jump_label.h>
#include <linux/kdebug.h>
#include <linux/module.h>
#include <linux/ptrace.h>
#include <linux/random.h>
#include <linux/smp.h>
#include <linux/syscore_ops.h>
#include <asm/debugreg.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>

DEFINE_PER_CPU(unsigned long, sysenter_count);
DEFINE_PER_CPU(unsigned long, sysenter_count_all);
DEFINE_PER_CPU(unsigned long, sysenter_kstack_offset);

static enum cpuhp_state hotplug_state;

static unsigned long read_entry(void)
{
	u32 low, high;

	if (sysenter_by_syscall)
		return sysenter_syscall_read();
	rdmsr(MSR_IA32_SYSENTER_EIP, low, high);
	return low | (u64)high << 32;
}

static void write_entry(unsigned long entry)
{
	if (sysenter_by_syscall)
		sysenter_syscall_write(entry);
	else
		wrmsr(MSR_IA32_SYSENTER_EIP, (u32)entry, (u64)entry >> 32);
}

#ifdef SYSENTER_FAULT_INJECTION
static unsigned int fail_at, faults_passed;
module_param(fail_at, uint, 0444);

int sysenter_fault(void)
{
	return ++faults_passed == fail_at ? -ENOMEM : 0;
}
#endif

static char *scope = "marked";
module_param(scope, charp, 0444);
MODULE_PARM_DESC(scope, "whose calls take the fast path: marked (the default), all (every program's), both");

bool sysenter_scope_marked, sysenter_scope_all;

static int __init choose_scope(void)
{
	bool both = !strcmp(scope, "both");

	sysenter_scope_marked = both || !strcmp(scope, "marked");
	sysenter_scope_all = both || !strcmp(scope, "all");
	if (sysenter_scope_marked || sysenter_scope_all)
		return 0;
	pr_err("refused: scope=%s is none of marked, all, both\n", scope);
	return -EINVAL;
}

static bool unsafe;
module_param(unsafe, bool, 0444);
MODULE_PARM_DESC(unsafe, "load although the kernel applies a mitigation that this entry has not; taints the kernel");

int __init sysenter_lacks(const char *mitigation)
{
	if (!unsafe) {
		pr_err("refused: the kernel %s and this entry does not; unsafe=1 loads it without\n", mitigation);
		return -EOPNOTSUPP;
	}
	pr_warn("unsafe=1: the kernel %s and this entry does not: calls on the fast path are not protected by it\n",
		mitigation);
	add_taint(TAINT_USER, LOCKDEP_STILL_OK);	/* as the user has asked */
	return 0;
}

/*
 * On 7.x a key turns on what DEBUG_RSEQ was before: at each call's return the kernel looks
 * whether it was made in a restartable sequence, and kills a program that did that.
 */
bool __init sysenter_looks_for_sequences(void)
{
	struct static_key *key = (struct static_key *)sysenter_lookup("rseq_debug_enabled");

	return key && static_key_enabled(key);
}

int __init sysenter_check_buffers(void)
{
#ifndef X86_FEATURE_CLEAR_CPU_BUF	/* it clears by a static key, elsewhere */
	if (static_branch_unlikely(&mds_user_clear))
		return sysenter_lacks("clears CPU buffers on each exit in a way that is not known here (boot with mds=off)");
#endif
	return 0;
}

/* Runs on `cpu`. If its entry is neither the kernel's nor ours, another module has it. */
static int sysenter_cpu_online(unsigned int cpu)
{
	unsigned long entry = read_entry();

	if (sysenter_fault())
		return -ENOMEM;
	if (entry == sysenter_entry_point)
		return 0;
	if (entry != kernel_stock_entry || !sysenter_arch_check_cpu()) {
		pr_err("refused: CPU %u's entry is not the kernel's; another module has it\n", cpu);
		return -EBUSY;
	}
	write_entry(sysenter_entry_point);
	return 0;
}

static int sysenter_cpu_offline(unsigned int cpu)
{
	if (read_entry() == sysenter_entry_point)
		write_entry(kernel_stock_entry);
	return 0;
}

/*
 * S3. On resume the kernel rewrites the boot CPU's SYSENTER registers, so they are set again
 * below. For SYSCALL it restores EFER but not STAR, so both are given back before the
 * suspend. The task gates are taken out too: they need TR, and the kernel loads TR only some
 * time after the IDT.
 */
static int sysenter_suspend(SYSCORE_DATA)
{
	if (sysenter_by_syscall) {
		sysenter_cpu_offline(smp_processor_id());
		sysenter_gates_write(false);
	}
	return 0;
}

static void sysenter_resume(SYSCORE_DATA)
{
	if (sysenter_by_syscall)
		sysenter_gates_write(true);
	sysenter_cpu_online(smp_processor_id());
}

DEFINE_SYSCORE(sysenter_syscore, sysenter_suspend, sysenter_resume);

/*
 * TF set by the caller raises #DB at each instruction from our entry's first to the kernel's
 * entry. The kernel ignores such a #DB in its own entry code only. Elsewhere it warns and
 * clears TF, and a debugger would lose control of the program. So ignore it here as well.
 * The caller gets its trap when it is back in user mode.
 */
static int sysenter_die_notify(struct notifier_block *block, unsigned long event, void *data)
{
	struct die_args *args = data;
	unsigned long *dr6;

	if (event != DIE_DEBUG || user_mode(args->regs) ||
	    ((args->regs->ip < (unsigned long)sysenter_entry ||
	      args->regs->ip >= (unsigned long)sysenter_entry_end) && !sysenter_in_trampoline(args->regs->ip)))
		return NOTIFY_DONE;
	dr6 = (unsigned long *)args->err;
	*dr6 &= ~DR_STEP;
	return *dr6 ? NOTIFY_DONE : NOTIFY_STOP;
}

static struct notifier_block sysenter_die = {
	.notifier_call = sysenter_die_notify,
	.priority = INT_MAX,
};

static unsigned long counted(unsigned long __percpu *count)
{
	unsigned long calls = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		calls += *per_cpu_ptr(count, cpu);
	return calls;
}

static int calls_get(char *buffer, const struct kernel_param *param)
{
	return sprintf(buffer, "%lu\n", counted(&sysenter_count) + counted(&sysenter_count_all));
}

static int calls_all_get(char *buffer, const struct kernel_param *param)
{
	return sprintf(buffer, "%lu\n", counted(&sysenter_count_all));
}

/* HAZARD: the kernel calls .set of a parameter that is given at load, even if that is NULL. */
static int only_read(const char *value, const struct kernel_param *param)
{
	pr_err("refused: the parameter %s can only be read\n", param->name);
	return -EPERM;
}

static const struct kernel_param_ops calls_ops = { .set = only_read, .get = calls_get };
module_param_cb(calls, &calls_ops, NULL, 0444);
MODULE_PARM_DESC(calls, "fast calls made since the module was loaded");
static const struct kernel_param_ops calls_all_ops = { .set = only_read, .get = calls_all_get };
module_param_cb(calls_all, &calls_all_ops, NULL, 0444);
MODULE_PARM_DESC(calls_all, "those of them that were not marked (scope=all)");
static const struct kernel_param_ops fast_table_ops = { .set = only_read, .get = param_get_uint };
module_param_cb(fast_table, &fast_table_ops, &sysenter_fast_calls, 0444);
MODULE_PARM_DESC(fast_table, "how many system calls take the fast path");

static void give_back(void *found)
{
	if (read_entry() != sysenter_entry_point)
		return;
	write_entry(kernel_stock_entry);
	atomic_inc(found);
}

/*
 * HAZARD: a VM that began with our entry writes it back at each exit (vms.c), and one that begins
 * while a CPU still has it begins with it. So this ends when no CPU has it and no VM is there that
 * could bring it.
 */
static void give_entries_back(void)
{
	atomic_t found;

	unregister_syscore(&sysenter_syscore);
	cpuhp_remove_state(hotplug_state);
	do {
		sysenter_wait_for_vms();
		atomic_set(&found, 0);
		on_each_cpu(give_back, &found, 1);
	} while (atomic_read(&found) || sysenter_vms_exist());
}

static int __init take_entries(void)
{
	int error = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "sysenter:online",
				      sysenter_cpu_online, sysenter_cpu_offline);

	if (error < 0)
		return error;
	hotplug_state = error;
	register_syscore(&sysenter_syscore);
	error = sysenter_check_vms();		/* one may have started meanwhile */
	if (error)
		give_entries_back();
	return error;
}

static int __init sysenter_init(void)
{
	int error, cpu;

	for_each_possible_cpu(cpu)
		per_cpu(sysenter_kstack_offset, cpu) = get_random_long() | 1;
	if ((error = choose_scope()) ||
	    (error = sysenter_find_kernel()) || (error = sysenter_guard()) ||
	    (error = sysenter_by_registers ? sysenter_check_vms() : 0) ||
	    (error = sysenter_arch_check()) ||
	    (error = sysenter_fill_calls()) ||
	    (error = sysenter_write_patch_sites()))
		return error;
	error = sysenter_fault() ?: register_die_notifier(&sysenter_die);
	if (error)
		return error;
	error = sysenter_arch_prepare();
	if (error)
		goto undo_die;
	error = sysenter_by_registers ? take_entries() : 0;
	if (error)
		goto undo_arch;		/* some CPUs may have used our entry for a moment */
	error = sysenter_all_begin();
	if (error)
		goto undo_entries;
	/*
	 * The device comes last: a program may call as soon as it has mapped the stub, and
	 * a CPU without our entry does not know marked calls (abi.h).
	 */
	error = sysenter_scope_marked ? sysenter_device_register() : 0;
	if (error)
		goto undo_all;
	pr_info("loaded, %u calls on the fast path\n", sysenter_fast_calls);
	return 0;

undo_all:
	sysenter_all_end();
undo_entries:
	if (sysenter_by_registers)
		give_entries_back();
undo_arch:
	sysenter_wait_until_left();
	sysenter_arch_undo();
undo_die:
	unregister_die_notifier(&sysenter_die);
	return error;
}

static void __exit count_foreign(void *count)
{
	unsigned long entry = read_entry();

	/* the kernel's own entry, which a hypervisor's exit may have written, goes on to nobody */
	if (entry != sysenter_entry_point && entry != kernel_stock_entry)
		atomic_inc(count);
}

/*
 * Another module may have put its entry before ours. It then goes on to our entry, or writes
 * it back when it leaves. So wait until it has gone.
 */
static void __exit wait_for_entries(void)
{
	unsigned int round;
	atomic_t foreign;

	for (round = 0; ; round++) {
		atomic_set(&foreign, 0);
		on_each_cpu(count_foreign, &foreign, 1);
		if (!atomic_read(&foreign))
			return;
		if (round % 100 == 0)
			pr_notice("unload waits: on %d CPU(s) another module has put its SYSENTER entry before ours; unload that first\n",
				  atomic_read(&foreign));
		msleep(100);
	}
}

static void __exit sysenter_exit(void)
{
	if (sysenter_scope_marked)
		sysenter_device_unregister();
	if (sysenter_by_registers)
		wait_for_entries();
	sysenter_all_end();
	if (sysenter_by_registers)
		give_entries_back();
	sysenter_wait_until_left();
	sysenter_arch_undo();
	unregister_die_notifier(&sysenter_die);
	pr_info("unloaded\n");
}

module_init(sysenter_init);
module_exit(sysenter_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A faster system-call entry by SYSENTER");
