// SPDX-License-Identifier: GPL-2.0-or-later
/* A live patch, for tests: getppid() answers 4242. */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/ptrace.h>

static long patched_getppid(const struct pt_regs *regs)
{
	return 4242;
}

static struct klp_func functions[] = {
	{ .old_name = "__x64_sys_getppid", .new_func = patched_getppid },
	{ }
};

static struct klp_object objects[] = {
	{ .funcs = functions },		/* no name: the kernel's */
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int __init patch_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit patch_exit(void)
{
}

module_init(patch_init);
module_exit(patch_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_DESCRIPTION("live patch of getppid(), for tests");
