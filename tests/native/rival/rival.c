// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A module that gets in the way of sysenter, for tests only:
 *
 *	takes=1		takes the SYSENTER entry of each CPU for a trampoline to what
 *			was there, and gives it back when it goes
 *	takes_cpu=N	of CPU N only
 *	probes=SYMBOL	puts a kprobe on SYMBOL; does not load if it cannot
 */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/smp.h>
#include <asm/msr.h>

static bool takes;
module_param(takes, bool, 0444);
static int takes_cpu = -1;
module_param(takes_cpu, int, 0444);
static char *probes;
module_param(probes, charp, 0444);

unsigned long rival_was;
void rival_entry(void);
asm(".pushsection .text\n"
    ".globl rival_entry\n"
    "rival_entry:\n"
#ifdef CONFIG_X86_64	/* without PTI, and without the kernel's IBT */
    "	jmp *rival_was(%rip)\n"
#else
    "	jmp *%cs:rival_was\n"
#endif
    ".popsection");

static struct kprobe probe;

static void write_entry(unsigned long entry)
{
	wrmsr(MSR_IA32_SYSENTER_EIP, (u32)entry, (u64)entry >> 32);
}

static void take(void *unused)
{
	u32 low, high;

	rdmsr(MSR_IA32_SYSENTER_EIP, low, high);
	rival_was = low | (u64)high << 32;
	write_entry((unsigned long)rival_entry);
}

static void give_back(void *unused)
{
	write_entry(rival_was);
}

static void each(smp_call_func_t function)
{
	if (takes_cpu >= 0)
		smp_call_function_single(takes_cpu, function, NULL, 1);
	else if (takes)
		on_each_cpu(function, NULL, 1);
}

static int __init rival_init(void)
{
	if (probes) {
		int error;

		probe.symbol_name = probes;
		error = register_kprobe(&probe);
		if (error)
			return error;
	}
	each(take);
	return 0;
}

static void __exit rival_exit(void)
{
	each(give_back);
	if (probes)
		unregister_kprobe(&probe);
}

module_init(rival_init);
module_exit(rival_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Gets in the way of sysenter, for its tests");
