// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Find the kernel's own functions that the entry code uses, and write their addresses into
 * the entry code.
 */
#include "sysenter.h"
#include "compat.h"
#include <linux/kprobes.h>
#include <linux/errno.h>

/* One record for each patch site in the entry code (KERNEL_PATCH, PATCH_BEFORE). */
struct patch_site {
	unsigned long	at;		/* address; on amd64 the offset from sysenter_entry */
	unsigned long	*target;	/* one of the kernel_* below */
	unsigned long	relative;	/* 1: relative to the end of the patch site; 0: absolute */
};

extern const struct patch_site sysenter_patch_sites[], sysenter_patch_sites_end[];

#ifdef CONFIG_X86_64
#define KERNEL_SYMBOLS(X)			\
	EXIT_SYMBOLS(X)				\
	X(entry_SYSENTER_compat)		\
	X(entry_SYSCALL_64_after_hwframe)	\
	X(cpu_tss_rw)				\
	X(init_top_pgt)				\
	X(flush_tlb_all)			\
	X(text_poke_copy)			\
	X(find_module)				\
	X(put_task_stack)			\
	X(wake_up_state)
#else
#ifdef CONFIG_X86_MCE
#define KERNEL_MACHINE_CHECK(X)	X(asm_exc_machine_check)
#else
#define KERNEL_MACHINE_CHECK(X)
#endif
#define KERNEL_SYMBOLS(X)		\
	X(entry_SYSENTER_32)		\
	X(asm_exc_debug)		\
	X(asm_exc_nmi)			\
	KERNEL_MACHINE_CHECK(X)		\
	X(switch_mm_irqs_off)		\
	X(flush_tlb_all)		\
	X(do_SYSENTER_32)		\
	EXIT_SYMBOLS(X)			\
	X(restore_all_switch_stack)	\
	X(get_cpu_entry_area)		\
	X(text_poke_copy)		\
	X(find_module)			\
	X(put_task_stack)		\
	X(wake_up_state)
#endif

#define X(symbol) unsigned long kernel_##symbol;
KERNEL_SYMBOLS(X)
#undef X

static unsigned long lookup_function;

/* kallsyms_lookup_name() is not exported since 5.7, but a kprobe finds it. */
static int __init find_lookup_name(void)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	int error = sysenter_fault() ?: register_kprobe(&probe);

	if (error) {
		pr_err("refused: no kallsyms_lookup_name here (error %d); a kernel with CONFIG_KPROBES and CONFIG_KALLSYMS is needed\n",
		       error);
		return error;
	}
	lookup_function = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	return 0;
}

unsigned long sysenter_lookup(const char *symbol)
{
	return lookup_function ? kernel_call(lookup_function, (unsigned long)symbol, 0, 0) : 0;
}

int __init sysenter_find_kernel(void)
{
	int error = find_lookup_name();

	if (error)
		return error;
#define X(symbol)								\
	kernel_##symbol = sysenter_lookup(#symbol);				\
	if (!kernel_##symbol) {							\
		pr_err("refused: this kernel has no " #symbol "; its entry code is not of the kind known here\n"); \
		return -ENOENT;							\
	}
	KERNEL_SYMBOLS(X)
#undef X
	return sysenter_arch_find_kernel();
}

/*
 * Module text is already read-only here. text_poke_copy() writes through a mapping of its
 * own, as the kernel does for its own patching. Nothing executes this code yet.
 */
int sysenter_poke(unsigned long at, const void *bytes, size_t size)
{
	if (!sysenter_fault() && kernel_call(kernel_text_poke_copy, at, (unsigned long)bytes, size))
		return 0;
	pr_err("refused: cannot write to module text\n");
	return -EFAULT;
}

int __init sysenter_write_patch_sites(void)
{
	const struct patch_site *site;

	for (site = sysenter_patch_sites; site < sysenter_patch_sites_end; site++) {
		unsigned long at = site->at + (IS_ENABLED(CONFIG_X86_64) ? (unsigned long)sysenter_entry : 0);
		u32 value = *site->target - (site->relative ? sysenter_runs_at(at) + sizeof(value) : 0);
		int error = sysenter_poke(at, &value, sizeof(value));

		if (error)
			return error;
	}
	return 0;
}
