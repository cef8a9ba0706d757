/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /proc/sysenter
 */
#include <linux/config.h>
#include <linux/version.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/proc_fs.h>
#include <linux/fs.h>
#include <linux/sys.h>
#include "legacy.h"
#include "module.h"

extern unsigned long sysenter_slow[];

static int read_proc(char *page, char **start, off_t off, int count, int *eof,
		     void *data)
{
	static const char *const names[SLOW_COUNTS] = { "declined", "exit_work",
		"fault", "vm86", "trapped", "nmi" };
	unsigned long *slow = (unsigned long *)sysenter_in_copy(sysenter_slow);
	int len, i, table = 0;

	for (i = 0; i < NR_syscalls; i++)
		table += !sysenter_slow_call[i];
	len = sprintf(page, "release %s\nway %s\nentry 0x%08lx\ntable %d\n",
		      UTS_RELEASE, sysenter_way->name, sysenter_entry_point,
		      table);
	for (i = 0; i < NR_CPUS; i++)
		if (sysenter_cpus[i].seen)
			len += sprintf(page + len, "calls cpu%d %lu\n", i,
				       sysenter_way->calls(i));
	for (i = 0; i < SLOW_COUNTS; i++)
		len += sprintf(page + len, "%s %lu\n", names[i], slow[i]);
	if (sysenter_way->report)
		len += sysenter_way->report(page + len);
	*eof = 1;
	/* pread() takes an offset of 64 bits, of which the kernel passes 32. */
	if (off < 0 || off >= len)
		return 0;
	*start = page + off;
	len -= off;
	return len > count ? count : len;
}

/* A process that has the file open will call read_proc again. */
#if LINUX_2_2
static void count_reader(struct inode *inode, int opened)
{
	if (opened)
		MOD_INC_USE_COUNT;
	else
		MOD_DEC_USE_COUNT;
}
#endif

void sysenter_show_report(void)
{
	struct proc_dir_entry *proc = create_proc_entry("sysenter", 0444, NULL);

	if (!proc)
		return;
#if LINUX_2_2
	proc->fill_inode = count_reader;
#else
	proc->owner = &__this_module;
#endif
	proc->read_proc = read_proc;
}

void sysenter_hide_report(void)
{
	remove_proc_entry("sysenter", NULL);
}
