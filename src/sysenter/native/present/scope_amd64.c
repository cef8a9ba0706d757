// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * scope=all: the calls of every program, unmodified. The kernel's entry has one CALL of
 * do_syscall_64(). Its target becomes the stand-in in all_amd64.S: four of its five bytes
 * change. Unload writes the old target back.
 *
 * HAZARD: a CPU could execute the instruction while it is being written. So all CPUs wait in
 * stop_machine(), and each one serializes before it goes on (SDM Vol. 3A, Cross-Modifying
 * Code). There is no INT3 in between, as text_poke_bp() would put there.
 *
 * Locks: text_mutex inside the hotplug lock, in the order in which the kernel takes them for
 * static keys. So this calls the form of stop_machine() for callers that hold the hotplug
 * lock.
 */
#include "sysenter.h"
#include <linux/atomic.h>
#include <linux/cpu.h>
#include <linux/delay.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/smp.h>
#include <linux/stop_machine.h>
#include <asm/cpufeature.h>
#include <asm/processor.h>
#include <asm/sync_core.h>
#include "offsets.h"

#define CALL_OPCODE	0xe8
#define CALL_SIZE	5

asmlinkage void sysenter_all(void);
extern const char sysenter_all_exit_done[];

/* By number: 1 if the call goes to do_syscall_64(). */
u8 sysenter_all_slow[SYSENTER_NR] __ro_after_init;

unsigned long kernel_do_syscall_64, kernel_after_do_syscall_64;
static unsigned long stop_machine_cpuslocked_at, text_poke_at;
static struct mutex *text_mutex_at;

static_assert(NR_SYSCALLS <= SYSENTER_NR);

/* The target of the CALL at `at', or 0 if there is another instruction. */
static unsigned long call_target(unsigned long at)
{
	s32 distance;

	if (*(const u8 *)at != CALL_OPCODE)
		return 0;
	memcpy(&distance, (const void *)(at + 1), sizeof(distance));
	return at + CALL_SIZE + distance;
}

/*
 * Find the call in the kernel's entry. It is between the last push of the frame, which every
 * way in executes, and SYSRET. 0 if there is no such call, or more than one.
 */
static unsigned long __init find_call(unsigned long from, unsigned long to)
{
	unsigned long at, found = 0;

	for (at = from; at + CALL_SIZE <= to; at++) {
		if (call_target(at) != kernel_do_syscall_64)
			continue;
		if (found)
			return 0;
		found = at;
	}
	return found;
}

/* The target in a module, if the entry calls one. */
static unsigned long __init find_foreign(unsigned long from, unsigned long to)
{
	unsigned long at, target;

	for (at = from; at + CALL_SIZE <= to; at++) {
		target = call_target(at);
		if (target >= MODULES_VADDR && target < MODULES_END)
			return target;
	}
	return 0;
}

/* Find the addresses for the patch sites. These are written for each scope. */
int __init sysenter_all_find_kernel(void)
{
	unsigned long from = kernel_entry_SYSCALL_64_after_hwframe, to, at, foreign;

	kernel_do_syscall_64 = sysenter_lookup("do_syscall_64");
	to = sysenter_lookup("syscall_return_via_sysret");
	at = kernel_do_syscall_64 && to > from && to - from < PAGE_SIZE ? find_call(from, to) : 0;
	kernel_after_do_syscall_64 = at ? at + CALL_SIZE : 0;
	if (!sysenter_scope_all)
		return 0;
#ifdef X86_FEATURE_CALL_DEPTH
	if (!at && boot_cpu_has(X86_FEATURE_CALL_DEPTH))
		return 0;	/* sysenter_arch_check() refuses that */
#endif
	if (!at) {
		foreign = to > from && to - from < PAGE_SIZE ? find_foreign(from, to) : 0;
		if (foreign)
			pr_err("refused: scope=all: the kernel's entry calls %ps instead of do_syscall_64; unload that first\n",
			       (void *)foreign);
		else
			pr_err("refused: scope=all: this kernel's entry has no single call of do_syscall_64; it is not of the kind known here\n");
		return foreign ? -EBUSY : -ENOENT;
	}
	stop_machine_cpuslocked_at = sysenter_lookup("stop_machine_cpuslocked");
	text_poke_at = sysenter_lookup("text_poke");
	text_mutex_at = (struct mutex *)sysenter_lookup("text_mutex");
	if (stop_machine_cpuslocked_at && text_poke_at && text_mutex_at)
		return 0;
	pr_err("refused: scope=all: this kernel has no stop_machine_cpuslocked, text_poke or text_mutex\n");
	return -ENOENT;
}

static unsigned long site(void)
{
	return kernel_after_do_syscall_64 - CALL_SIZE;
}

static struct {
	u8		bytes[CALL_SIZE];
	unsigned long	expected;	/* the target before the change */
	atomic_t	first;
	int		error, done;
} poke;

/* Runs on all CPUs at once, interrupts off. */
static int poke_stopped(void *unused)
{
	if (atomic_inc_return(&poke.first) == 1) {
		if (call_target(site()) == poke.expected)
			kernel_call(text_poke_at, site(), (unsigned long)poke.bytes, CALL_SIZE);
		else
			poke.error = -EBUSY;
		smp_store_release(&poke.done, 1);	/* after the bytes are written */
	} else {
		while (!smp_load_acquire(&poke.done))	/* before the code is fetched again */
			cpu_relax();
	}
	sync_core();
	return 0;
}

/* -EBUSY if the call's present target is not `from'. */
static int retarget(unsigned long from, unsigned long to)
{
	s32 distance = to - kernel_after_do_syscall_64;
	int error;

	cpus_read_lock();
	mutex_lock(text_mutex_at);
	poke.bytes[0] = CALL_OPCODE;
	memcpy(poke.bytes + 1, &distance, sizeof(distance));
	poke.expected = from;
	atomic_set(&poke.first, 0);
	poke.error = poke.done = 0;
	error = kernel_call(stop_machine_cpuslocked_at, (unsigned long)poke_stopped, 0,
			    (unsigned long)cpu_online_mask);
	error = error ?: poke.error;
	mutex_unlock(text_mutex_at);
	cpus_read_unlock();
	return error;
}

int __init sysenter_all_begin(void)
{
	int error;

	if (!sysenter_scope_all)
		return 0;
	error = sysenter_fault() ?: retarget(kernel_do_syscall_64, (unsigned long)sysenter_all);
	if (error == -EBUSY)
		pr_err("refused: scope=all: the kernel's entry calls %ps instead of do_syscall_64; unload that first\n",
		       (void *)call_target(site()));
	return error;
}

/*
 * Another module may have changed these bytes after us. It then goes on to our stand-in, or
 * writes our bytes back when it leaves. So wait until it has gone.
 */
void sysenter_all_end(void)
{
	unsigned int round;

	if (!sysenter_scope_all)
		return;
	for (round = 0; retarget((unsigned long)sysenter_all, kernel_do_syscall_64); round++) {
		if (round % 100 == 0)
			pr_notice("unload waits: the kernel's entry calls %ps instead of the stand-in of scope=all; unload that first\n",
				  (void *)call_target(site()));
		msleep(100);
	}
}

/*
 * A task in exit work, which a signal or a tracer may have stopped, has a return address into
 * this module. Replace it by the address of the kernel's IRET path, which also expects
 * pt_regs at its stack pointer. The return address is in the word just below pt_regs. In any
 * other task that word does not have this value, or nobody will read it.
 */
void sysenter_all_leave_exit_work(void)
{
	struct task_struct *process, *task;

	if (!sysenter_scope_all)
		return;
	rcu_read_lock();
	for_each_process_thread(process, task) {
		unsigned long *back;

		if (!try_get_task_stack(task))
			continue;
		back = (unsigned long *)task_pt_regs(task) - 1;
		cmpxchg(back, (unsigned long)sysenter_all_exit_done, kernel_return_to_usermode);
		kernel_call(kernel_put_task_stack, (unsigned long)task, 0, 0);
	}
	rcu_read_unlock();
}
