// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The amd64 part: which processors and which of the kernel's mitigations this entry
 * supports, and the entry's pages in the user's page table.
 */
#include "sysenter.h"
#include "compat.h"
#include "frame.h"
#include <linux/context_tracking_state.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/vmalloc.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/segment.h>
#include "offsets.h"

/* entry_amd64.S. *_no_ibt is the same entry for a machine without IBT, behind the ENDBR. */
extern const char sysenter_entry_no_ibt[];
extern const char sysenter_entry_mitigated[], sysenter_entry_mitigated_no_ibt[];
extern const char sysenter_entry_pti[], sysenter_entry_pti_no_ibt[];

unsigned long sysenter_entry_point;

/* By number: the bodies, for sysenter_dispatch, and what the entry's comparison expects. */
unsigned long sysenter_calls[SYSENTER_NR] __ro_after_init;
unsigned long sysenter_expected[SYSENTER_NR] __ro_after_init;

/* Symbols whose name or place differs between kernels. */
unsigned long kernel_return_to_usermode, kernel_current_task, kernel_top_of_stack;
unsigned long kernel_tss_sp0, kernel_user_pcid_flush_mask;
unsigned long kernel_x86_spec_ctrl_current, kernel_clear_bhb_loop;
unsigned long kernel_x86_ibpb_exit_to_user;

/*
 * What runs the body of a call: the kernel's own x64_sys_call(), a tree of comparisons and
 * direct jumps (since 6.9 and the stable kernels of that time), or else sysenter_dispatch,
 * an indirect jump. Neither checks that the number exists: since 7.3 x64_sys_call() has no
 * default case. So sysenter_expected[] must have only numbers that exist.
 */
unsigned long kernel_dispatch;
asmlinkage void sysenter_dispatch(void);

int __init sysenter_arch_find_kernel(void)
{
	unsigned long tlbstate;
#ifdef HAVE_PCPU_HOT
	unsigned long hot = sysenter_lookup("pcpu_hot");

	kernel_current_task = hot ? hot + PCPU_HOT_current_task : 0;
	kernel_top_of_stack = hot ? hot + PCPU_HOT_top_of_stack : 0;
#else
	kernel_current_task = sysenter_lookup("current_task");
	kernel_top_of_stack = sysenter_lookup("cpu_current_top_of_stack");
#endif
	kernel_dispatch = sysenter_lookup("x64_sys_call") ?: (unsigned long)sysenter_dispatch;
	kernel_return_to_usermode = sysenter_lookup("swapgs_restore_regs_and_return_to_usermode");
	kernel_tss_sp0 = kernel_cpu_tss_rw + TSS_SP0;
	tlbstate = sysenter_lookup("cpu_tlbstate");
	kernel_user_pcid_flush_mask = tlbstate ? tlbstate + TLBSTATE_user_pcid_flush_mask : 0;
	kernel_x86_spec_ctrl_current = sysenter_lookup("x86_spec_ctrl_current");
	kernel_clear_bhb_loop = sysenter_lookup("clear_bhb_loop");
	kernel_x86_ibpb_exit_to_user = sysenter_lookup("x86_ibpb_exit_to_user");
	if (kernel_current_task && kernel_top_of_stack && kernel_return_to_usermode)
		return sysenter_all_find_kernel();
	pr_err("refused: this kernel keeps its current task, its stack or its return to user mode elsewhere than the kernels known here\n");
	return -ENOENT;
}

/* Reasons why the entry cannot work on this kernel at all. No parameter overrides them. */
static const char * __init not_workable(void)
{
#ifdef X86_FEATURE_FRED
	if (cpu_feature_enabled(X86_FEATURE_FRED))
		return "enters by FRED, which leaves SYSENTER unused (boot with fred=off)";
#endif
	if (sysenter_looks_for_sequences())
		return "looks at each return for calls made in a restartable sequence (rseq_debug: turn it off)";
	if (context_tracking_enabled())
		return "tracks when a CPU is in user mode (nohz_full: boot without it)";
#ifdef X86_FEATURE_CALL_DEPTH
	if (sysenter_scope_all && boot_cpu_has(X86_FEATURE_CALL_DEPTH))
		return "tracks the depth of calls (retbleed=stuff: boot with another)";
#endif
#ifndef CONFIG_UNWINDER_ORC
	if (sysenter_scope_all)
		return "follows frame pointers in stack traces (scope=all: a kernel with UNWINDER_ORC is needed)";
#endif
#ifndef CONFIG_SMP	/* there no per-CPU variable is by %gs, as the entry has them */
	return "was built for one processor alone (SMP: a kernel with it is needed)";
#endif
#if defined(CONFIG_TRACE_IRQFLAGS) || defined(CONFIG_DEBUG_ENTRY) || defined(CONFIG_KMSAN) || \
	defined(CONFIG_DEBUG_RSEQ)
	return "was built to check its own entry code (TRACE_IRQFLAGS, DEBUG_ENTRY, KMSAN or DEBUG_RSEQ: a kernel without them is needed)";
#endif
	return NULL;
}

/*
 * HAZARD: an instruction that only a mitigation uses is patched with 0 if its symbol was not
 * found. So the symbol must be there on a processor where the mitigation is on.
 */
static int __init check_symbol(unsigned int feature, unsigned long address, const char *symbol)
{
	if (address || !boot_cpu_has(feature))
		return 0;
	pr_err("refused: a mitigation is on whose %s is not where the kernels known here have it\n", symbol);
	return -ENOENT;
}

/* Mitigations that the kernel applies on its own entry or exit, and this entry does not have. */
static int __init check_mitigations(void)
{
	int error = sysenter_check_buffers();

	if (boot_cpu_has(X86_FEATURE_ENTRY_IBPB))
		error |= sysenter_lacks("has a branch predictor barrier on each entry (retbleed=ibpb: boot with another)");
#ifdef X86_FEATURE_CALL_DEPTH
	if (boot_cpu_has(X86_FEATURE_CALL_DEPTH))
		error |= sysenter_lacks("tracks the depth of calls (retbleed=stuff: boot with another)");
#endif
#ifdef X86_FEATURE_UNRET
	if (boot_cpu_has(X86_FEATURE_UNRET))
		error |= sysenter_lacks("untrains returns on each entry (retbleed=unret: boot with another)");
#endif
#ifdef X86_FEATURE_SRSO
	if (boot_cpu_has(X86_FEATURE_SRSO) || boot_cpu_has(X86_FEATURE_SRSO_ALIAS))
		error |= sysenter_lacks("untrains returns on each entry (srso: boot with spec_rstack_overflow=off)");
#endif
#if defined(CONFIG_GCC_PLUGIN_STACKLEAK) || defined(CONFIG_KSTACK_ERASE)
	error |= sysenter_lacks("erases its stack on each exit (KSTACK_ERASE: a kernel without it is needed)");
#endif
	return error ?:
	       check_symbol(X86_FEATURE_KERNEL_IBRS, kernel_x86_spec_ctrl_current, "x86_spec_ctrl_current") ?:
	       check_symbol(FEATURE_CLEAR_BHB_LOOP, kernel_clear_bhb_loop, "clear_bhb_loop") ?:
	       check_symbol(X86_FEATURE_PTI, kernel_user_pcid_flush_mask, "cpu_tlbstate");
}

/* Whether the kernel applies any of ENTRY_MITIGATIONS and EXIT_MITIGATIONS. */
static bool __init has_mitigations(void)
{
	return boot_cpu_has(FEATURE_CLEAR_BHB_LOOP) || boot_cpu_has(FEATURE_IBPB_EXIT_TO_USER) ||
	       boot_cpu_has(X86_FEATURE_KERNEL_IBRS);
}

static unsigned long __init choose_entry(void)
{
	bool ibt = boot_cpu_has(X86_FEATURE_IBT);

	if (boot_cpu_has(X86_FEATURE_PTI))
		return (unsigned long)(ibt ? sysenter_entry_pti : sysenter_entry_pti_no_ibt);
	if (has_mitigations())
		return (unsigned long)(ibt ? sysenter_entry_mitigated : sysenter_entry_mitigated_no_ibt);
	return ibt ? (unsigned long)sysenter_entry : (unsigned long)sysenter_entry_no_ibt;
}

void __init sysenter_arch_slow_call(unsigned int nr)
{
	sysenter_expected[nr] = (unsigned long)NUMBER_SLOW << 32;
	sysenter_all_slow[nr] = 1;
}

void __init sysenter_arch_fast_call(unsigned int nr, unsigned int arguments, unsigned long body)
{
	sysenter_calls[nr] = body;
	sysenter_all_slow[nr] = 0;
	sysenter_expected[nr] = arguments <= 3 ? FRAME_SS : (unsigned long)NUMBER_SLOW << 32 | NUMBER_WIDE;
}

/* Marked calls come by SYSENTER. Does the processor have it, and does the kernel use it? */
static int __init check_sysenter(void)
{
	u32 cs, high;

	if (boot_cpu_data.x86_vendor != X86_VENDOR_INTEL) {
		pr_err("refused: this processor's vendor is %s; in 64-bit mode only Intel's have SYSENTER (scope=all needs none)\n",
		       boot_cpu_data.x86_vendor_id);
		return -ENODEV;
	}
	rdmsr(MSR_IA32_SYSENTER_CS, cs, high);
	if (cs != __KERNEL_CS) {
		pr_err("refused: the kernel has SYSENTER switched off; boot without ia32_emulation=0 (scope=all needs none)\n");
		return -ENODEV;
	}
	if (!sysenter_executes()) {
		pr_err("refused: SYSENTER is an invalid instruction on this processor, which says that it is Intel's (a virtual machine on another?; scope=all needs none)\n");
		return -ENODEV;
	}
	return 0;
}

int __init sysenter_arch_check(void)
{
	const char *reason = not_workable();
	int error;

	if (boot_cpu_has(X86_FEATURE_XENPV)) {
		pr_err("refused: under Xen PV system calls enter the hypervisor\n");
		return -ENODEV;
	}
	if (reason) {	/* before the MSRs are read: with FRED the kernel leaves them 0 */
		pr_err("refused: the kernel %s and this entry does not\n", reason);
		return -EOPNOTSUPP;
	}
	error = check_symbol(FEATURE_IBPB_EXIT_TO_USER, kernel_x86_ibpb_exit_to_user, "x86_ibpb_exit_to_user");
	if (error || !sysenter_scope_marked)
		return error;	/* scope=all: the kernel's entry applies its other mitigations itself */
	error = check_sysenter() ?: check_mitigations();
	if (error)
		return error;
	sysenter_entry_point = choose_entry();
	return 0;
}

/* The entry reads the caller's flags just below the TSS's sp0, so that must be SYSENTER_ESP. */
bool sysenter_arch_check_cpu(void)
{
	unsigned long sp0 = this_cpu_read(cpu_tss_rw.x86_tss.sp0);
	u32 low, high;

	rdmsr(MSR_IA32_SYSENTER_ESP, low, high);
	return (low | (u64)high << 32) == sp0;
}

/*
 * Page-table isolation: the user's page table maps only what the CPU needs to enter and
 * leave the kernel. All processes share the tables below its last entry (pgd_ctor,
 * arch/x86/mm/pgtable.c), so one change there is enough.
 */
static pte_t *user_pte(unsigned long address)
{
	pgd_t *pgd = kernel_to_user_pgdp((pgd_t *)kernel_init_top_pgt + pgd_index(address));
	unsigned long table;
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;

	if (pgd_none(*pgd))
		return NULL;
	p4d = p4d_offset(pgd, address);
	if (p4d_none(*p4d))
		return NULL;
	pud = pud_offset(p4d, address);
	if (pud_none(*pud)) {
		table = get_zeroed_page(GFP_KERNEL);
		if (!table)
			return NULL;
		set_pud(pud, __pud(_KERNPG_TABLE | __pa(table)));
	}
	pmd = pmd_offset(pud, address);
	if (pmd_none(*pmd)) {
		table = get_zeroed_page(GFP_KERNEL);
		if (!table)
			return NULL;
		set_pmd(pmd, __pmd(_KERNPG_TABLE | __pa(table)));
	}
	if (pmd_val(*pmd) & _PAGE_PSE)
		return NULL;
	return pte_offset_kernel(pmd, address);
}

/* With scope=all the kernel's own entry is used, and the user needs no page of ours. */
static bool maps_pages(void)
{
	return boot_cpu_has(X86_FEATURE_PTI) && sysenter_scope_marked;
}

#define ENTRY_PAGES(address)						\
	(address) = (unsigned long)sysenter_entry & PAGE_MASK;		\
	(address) < (unsigned long)sysenter_entry_end;			\
	(address) += PAGE_SIZE

int __init sysenter_arch_prepare(void)
{
	pgprot_t prot = __pgprot(pgprot_val(PAGE_KERNEL_ROX) & ~_PAGE_GLOBAL);
	unsigned long address;

	if (!maps_pages())
		return 0;
	for (ENTRY_PAGES(address)) {
		pte_t *pte = user_pte(address);

		if (!pte || !pte_none(*pte)) {
			sysenter_arch_undo();
			pr_err("refused: no room for the entry in the user's page table\n");
			return -ENOMEM;
		}
		set_pte(pte, pfn_pte(vmalloc_to_pfn((void *)address), prot));
	}
	return 0;
}

/* The tables are kept: the next load of the module uses them again. */
void sysenter_arch_undo(void)
{
	unsigned long address;

	if (!maps_pages())
		return;
	for (ENTRY_PAGES(address)) {
		pte_t *pte = user_pte(address);

		if (pte && pte_pfn(*pte) == vmalloc_to_pfn((void *)address))
			set_pte(pte, __pte(0));
	}
	kernel_call(kernel_flush_tlb_all, 0, 0, 0);
}
