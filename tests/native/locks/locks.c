/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For Linux 2.2 and 2.4: a thread that has a lock for half of the time, interrupts on, and two
 * that want it with interrupts off. So do the users of the kernel's tasklist_lock.
 */
#include <linux/config.h>
#include <linux/module.h>
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/delay.h>
#include <asm/atomic.h>
#include <asm/spinlock.h>

#define MICROSECONDS 200

static rwlock_t lock = RW_LOCK_UNLOCKED;
static atomic_t running;
static volatile int stopping;

static int reader(void *unused)
{
	while (!stopping) {
		read_lock(&lock);
		udelay(MICROSECONDS);
		read_unlock(&lock);
		udelay(MICROSECONDS);
		if (current->need_resched)
			schedule();
	}
	atomic_dec(&running);
	return 0;
}

static int writer(void *unused)
{
	while (!stopping) {
		write_lock_irq(&lock);
		write_unlock_irq(&lock);
		if (current->need_resched)
			schedule();
	}
	atomic_dec(&running);
	return 0;
}

int init_module(void)
{
	atomic_set(&running, 3);
	kernel_thread(reader, NULL, 0);
	kernel_thread(writer, NULL, 0);
	kernel_thread(writer, NULL, 0);
	return 0;
}

void cleanup_module(void)
{
	stopping = 1;
	while (atomic_read(&running))
		schedule();
	/* until the last one has returned from here */
	current->state = TASK_UNINTERRUPTIBLE;
	schedule_timeout(HZ / 5);
}
