// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * For tests only: makes the kernel believe that its processor is one of Intel's and has SYSENTER, as
 * in a virtual machine with another processor's name. What the processor executes does not change.
 */
#include <linux/module.h>
#include <asm/cpufeature.h>
#include <asm/processor.h>

static int __init pretend_init(void)
{
	boot_cpu_data.x86_vendor = X86_VENDOR_INTEL;
	set_cpu_cap(&boot_cpu_data, X86_FEATURE_SEP);
	return 0;
}

static void __exit pretend_exit(void)
{
}

module_init(pretend_init);
module_exit(pretend_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Pretends another processor, for sysenter's tests");
