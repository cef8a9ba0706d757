// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * For tests only: CPU 1 sends NMIs to CPU 0, and this module counts where they came.
 *
 *	pause=		at most so many microseconds between two NMIs
 *	stub=, leave=	the addresses at which CPU 0 goes on after an NMI in the window of the
 *			SYSCALL entry, at its beginning and at its end
 *
 * The counts are parameters. taken: all. in_stub, in_leave: in the window. stepped: in the middle
 * of a change of page tables, from where the code is single-stepped. wrong_tables: the running
 * program's page tables were not in CR3; it must be 0.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mm_types.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <asm/apic.h>
#include <asm/nmi.h>
#include <asm/pgtable.h>

static unsigned long stub, leave, taken, in_stub, in_leave, stepped, wrong_tables;
module_param(stub, ulong, 0444);
module_param(leave, ulong, 0444);
module_param(taken, ulong, 0444);
module_param(in_stub, ulong, 0444);
module_param(in_leave, ulong, 0444);
module_param(stepped, ulong, 0444);
module_param(wrong_tables, ulong, 0444);

static unsigned int pause = 20;
module_param(pause, uint, 0444);

static struct task_struct *sender;
static bool pending;

static int on_nmi(unsigned int type, struct pt_regs *regs)
{
	if (!READ_ONCE(pending) || smp_processor_id())
		return NMI_DONE;
	taken++;
	in_stub += regs->ip == stub;
	in_leave += regs->ip == leave;
	stepped += !user_mode(regs) && regs->flags & X86_EFLAGS_TF;
	/* a running program has its own page tables */
	wrong_tables += user_mode(regs) && read_cr3_pa() != __pa(current->mm->pgd);
	WRITE_ONCE(pending, false);
	return NMI_HANDLED;
}

static int send(void *unused)
{
	unsigned long flags;

	while (!kthread_should_stop()) {
		local_irq_save(flags);
		WRITE_ONCE(pending, true);
		apic->send_IPI(0, NMI_VECTOR);
		local_irq_restore(flags);
		while (READ_ONCE(pending) && !kthread_should_stop())
			cpu_relax();
		udelay(1 + get_random_u32() % pause);
		cond_resched();
	}
	return 0;
}

static int __init nmis_init(void)
{
	int error = register_nmi_handler(NMI_LOCAL, on_nmi, 0, "nmis");

	if (error)
		return error;
	sender = kthread_create(send, NULL, "nmis");
	if (IS_ERR(sender)) {
		unregister_nmi_handler(NMI_LOCAL, "nmis");
		return PTR_ERR(sender);
	}
	kthread_bind(sender, 1);
	wake_up_process(sender);
	return 0;
}

static void __exit nmis_exit(void)
{
	kthread_stop(sender);
	unregister_nmi_handler(NMI_LOCAL, "nmis");
}

module_init(nmis_init);
module_exit(nmis_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Sends NMIs, for sysenter's tests");
