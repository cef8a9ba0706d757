/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SYSENTER for Linux 2.2 and 2.4: load and unload.
 *
 * entry.S runs at every call. The C files decide whether it may, put it in place on all
 * processors at once, and take it away again (module.h).
 */
#include <linux/config.h>
#include <linux/version.h>
#include <linux/module.h>
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/errno.h>
#include <linux/init.h>
#include <linux/sys.h>
#include <asm/unistd.h>
#include "legacy.h"
#include "module.h"

#ifdef MODULE_LICENSE
MODULE_LICENSE("GPL");
#endif
#ifdef MODULE_PARM
MODULE_PARM(way, "s");
MODULE_PARM(entry, "s");
#endif
#ifdef MODULE_PARM_DESC
MODULE_PARM_DESC(way, "2.2: cruel (default), gentle or gentle-global; 2.4: tss");
MODULE_PARM_DESC(entry, "auto (SYSENTER where there is one), sysenter or, on 2.4, syscall");
#endif
static char *way, *entry;

const struct way *sysenter_way;

/* ---- data for entry.S ---------------------------------------------------- */

/* Calls that entry.S sends to the kernel's own entry: those that take, copy or rewrite
   pt_regs, and numbers that no kernel examined here has. */
#define KNOWN_CALLS 222
unsigned long sysenter_slow_call[NR_syscalls];
static const unsigned char takes_pt_regs[] = {
	2 /* fork */, 11 /* execve */, 110 /* iopl */, 113 /* vm86old */,
	119 /* sigreturn */, 120 /* clone */, 166 /* vm86 */,
	173 /* rt_sigreturn */, 72 /* sigsuspend */, 179 /* rt_sigsuspend */,
	186 /* sigaltstack */, 190 /* vfork */,
};

static void choose_slow_calls(void)
{
	int i;

	for (i = 0; i < NR_syscalls; i++)
		sysenter_slow_call[i] = i >= KNOWN_CALLS;
	for (i = 0; i < sizeof(takes_pt_regs); i++)
		sysenter_slow_call[takes_pt_regs[i]] = 1;
}

asmlinkage void sysenter_segv(void)
{
	force_sig(SIGSEGV, current);
}

/* ---- switch on and off ---------------------------------------------------- */

static int on;

static int go_on(void)
{
	unsigned long flags;
	int tries = 100;

	for (;;) {
		if (sysenter_hold_others(&flags) == 0) {
			if (!sysenter_way->busy || !sysenter_way->busy())
				break;
			sysenter_release_others(NULL, flags);
		}
		if (--tries == 0)
			REFUSE("the other processors cannot be held: try again "
			       "when they are less busy\n");
		schedule();
	}
	if (sysenter_way->patch)
		sysenter_way->patch();
	sysenter_take_vectors();
	on = 1;
	sysenter_release_others(sysenter_way->turn_on, flags);
	return 0;
}

/* 0, or an error; then nothing has changed. */
static int go_off(void)
{
	unsigned long flags;

	if (!on)
		return 0;
	if (sysenter_hold_others(&flags))
		return -EBUSY;
	if (sysenter_in_use() || !sysenter_has_vectors()
	    || (sysenter_way->busy && sysenter_way->busy())) {
		sysenter_release_others(NULL, flags);
		return -EBUSY;
	}
	if (sysenter_way->unpatch)
		sysenter_way->unpatch();
	sysenter_give_vectors_back();
	on = 0;
	sysenter_release_others(sysenter_way->turn_off, flags);
	return 0;
}

/* delete_module asks this instead of testing the use count. (The use count says how many
   processes have /proc/sysenter open.) After a yes cleanup_module follows at once, and
   nothing can load the module in between. */
static int can_unload(void)
{
	return GET_USE_COUNT(&__this_module) ? -EBUSY : go_off();
}

/* ---- load and unload ----------------------------------------------------- */

static int choose_way(int by_syscall)
{
#if LINUX_2_2
	if (!way || strcmp(way, "cruel") == 0)
		sysenter_way = &sysenter_way_cruel;
	else if (strcmp(way, "gentle") == 0)
		sysenter_way = &sysenter_way_gentle;
	else if (strcmp(way, "gentle-global") == 0)
		sysenter_way = &sysenter_way_gentle_global;
	else
		REFUSE("way=%.40s: not cruel, gentle or gentle-global\n", way);
#else
	if (way && strcmp(way, "tss") != 0)
		REFUSE("way=%.40s: 2.4 has one, tss\n", way);
	sysenter_way = by_syscall ? &sysenter_way_syscall : &sysenter_way_tss;
#endif
	return sysenter_way->check();
}

int init_module(void)
{
	int error, by_syscall;

	if ((error = sysenter_check_kernel()) != 0
	    || (error = sysenter_check_cpus(entry, &by_syscall)) != 0
	    || (error = choose_way(by_syscall)) != 0)
		return error;
	choose_slow_calls();
	if ((error = sysenter_copy_text()) != 0 || (error = go_on()) != 0) {
		sysenter_free_copy();
		return error;
	}
	sysenter_show_report();
	__this_module.can_unload = can_unload;
	/* A kernel that looks for unused modules calls can_unload too, and may then not
	   unload this one. The module would stay loaded and be switched off. */
	__this_module.flags &= ~MOD_AUTOCLEAN;
	printk(KERN_INFO NAME "%s, way %s, %d processor%s, entry at 0x%08lx\n",
	       UTS_RELEASE, sysenter_way->name, CPUS, CPUS == 1 ? "" : "s",
	       sysenter_entry_point);
	return 0;
}

void cleanup_module(void)
{
	sysenter_hide_report();
	/* can_unload has switched it off. A kernel that did not call it waits here. */
	while (go_off() != 0)
		schedule();
	sysenter_free_copy();
	printk(KERN_INFO NAME "unloaded\n");
}
