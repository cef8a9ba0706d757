// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * For tests: a live patch of x64_sys_call(). getppid() answers 4242. All other calls go on to the
 * patched function, behind the call by which it came here.
 */
#include <linux/kprobes.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/ptrace.h>
#include <asm/unistd.h>

#define ENDBR_SIZE	4
#define FENTRY_SIZE	5

static long (*behind_fentry)(const struct pt_regs *regs, unsigned int nr);

static long patched_sys_call(const struct pt_regs *regs, unsigned int nr)
{
	return nr == __NR_getppid ? 4242 : behind_fentry(regs, nr);
}

static struct klp_func functions[] = {
	{ .old_name = "x64_sys_call", .new_func = patched_sys_call },
	{ }
};

static struct klp_object objects[] = {
	{ .funcs = functions },		/* no name: the kernel's */
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int __init patch_init(void)
{
	struct kprobe probe = { .symbol_name = "x64_sys_call" };
	static const u8 endbr[ENDBR_SIZE] = { 0xf3, 0x0f, 0x1e, 0xfa };
	unsigned long at;
	int error = register_kprobe(&probe);	/* for its address */

	if (error)
		return error;
	at = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	if (!memcmp((void *)at, endbr, ENDBR_SIZE))
		at += ENDBR_SIZE;
	behind_fentry = (void *)(at + FENTRY_SIZE);
	return klp_enable_patch(&patch);
}

static void __exit patch_exit(void)
{
}

module_init(patch_init);
module_exit(patch_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_DESCRIPTION("live patch of x64_sys_call(), for tests");
