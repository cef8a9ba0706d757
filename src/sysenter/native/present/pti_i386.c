// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Page-table isolation on i386: find a place for the trampoline (pti_i386.S) and map it.
 *
 * Each process has its own page table for user mode. All of these share the page tables
 * for the few parts of the kernel that they map. Of the shared tables only that of the CPU
 * entry areas has room: it has an area for each CPU that the kernel was built for, and most
 * machines have fewer CPUs. The trampoline's page is mapped there.
 */
#include "sysenter.h"
#include <linux/cpumask.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include <linux/vmalloc.h>
#include <asm/cpu_entry_area.h>
#include <asm/cpufeature.h>
#include <asm/fixmap.h>

#ifdef SYSENTER_TRAMPOLINE
extern const char sysenter_trampoline[], sysenter_trampoline_end[];
extern const char sysenter_trampoline_exit[], sysenter_trampoline_selector[];
extern const char sysenter_past_trampoline[], sysenter_leaves[], sysenter_leave_isolated[];

/* Targets for KERNEL_JMP and KERNEL_PATCH in pti_i386.S. */
unsigned long kernel_past_trampoline = (unsigned long)sysenter_past_trampoline;
unsigned long kernel_trampoline_exit, kernel_trampoline_selector;

static unsigned long trampoline;	/* the address at which it runs; 0: there is none */

unsigned long sysenter_runs_at(unsigned long text)
{
	if (!trampoline || text < (unsigned long)sysenter_trampoline || text >= (unsigned long)sysenter_trampoline_end)
		return text;
	return text - (unsigned long)sysenter_trampoline + trampoline;
}

bool sysenter_in_trampoline(unsigned long ip)
{
	return trampoline && ip >= trampoline && ip < trampoline + PAGE_SIZE;
}

static pmd_t *pmd_in(pgd_t *pgd, unsigned long address)
{
	return pmd_offset(pud_offset(p4d_offset(pgd, address), address), address);
}

/* The page-table entry for `address`, or NULL if user mode's tables do not share that table. */
static pte_t *shared_pte(unsigned long address)
{
	pgd_t *pgd = current->mm->pgd + pgd_index(address);
	pmd_t kernel = *pmd_in(pgd, address), user = *pmd_in(kernel_to_user_pgdp(pgd), address);

	if (!pmd_present(kernel) || pmd_val(kernel) & _PAGE_PSE || !pmd_present(user) || pmd_pfn(user) != pmd_pfn(kernel))
		return NULL;
	return pte_offset_kernel(&kernel, address);
}

/*
 * Find a free page behind the area of the last possible CPU. If there are as many CPUs as the
 * kernel was built for, only the page behind the last area can be free. Root may set a
 * hardware breakpoint there; its #DB is handled like that of TF.
 */
static unsigned long __init free_page_of_entry_areas(void)
{
	unsigned long address = CPU_ENTRY_AREA_PER_CPU + nr_cpu_ids * CPU_ENTRY_AREA_SIZE;
	unsigned long last = CPU_ENTRY_AREA_BASE + CPU_ENTRY_AREA_MAP_SIZE;

	for (; address <= last && address < FIXADDR_TOT_START; address += PAGE_SIZE) {
		pte_t *pte = shared_pte(address);

		if (pte && pte_none(*pte))
			return address;
	}
	return 0;
}

int __init sysenter_trampoline_choose(void)
{
	if (!boot_cpu_has(X86_FEATURE_PTI))
		return 0;
	if (sysenter_by_syscall) {
		pr_err("refused: the kernel isolates its page tables (PTI) and the entry by SYSCALL does not; boot with nopti to allow it\n");
		return -EOPNOTSUPP;
	}
	trampoline = free_page_of_entry_areas();
	if (!trampoline) {
		pr_err("refused: the kernel isolates its page tables (PTI) and has no room among its entry areas; boot with nopti to allow it\n");
		return -EOPNOTSUPP;
	}
	kernel_trampoline_exit = sysenter_runs_at((unsigned long)sysenter_trampoline_exit);
	kernel_trampoline_selector = sysenter_runs_at((unsigned long)sysenter_trampoline_selector);
	sysenter_entry_point = trampoline;
	return 0;
}

/* Nothing runs this code yet. */
int __init sysenter_trampoline_prepare(void)
{
	struct {
		u8 jmp;
		u32 distance;
		u8 nop;		/* jmp and nop replace two instructions */
	} __packed exit = { 0xe9, sysenter_leave_isolated - sysenter_leaves - 5, 0x90 };
	pgprot_t prot = __pgprot(pgprot_val(PAGE_KERNEL_ROX) & ~_PAGE_GLOBAL);
	int error;

	if (!trampoline)
		return 0;
	error = sysenter_poke((unsigned long)sysenter_leaves, &exit, sizeof(exit));
	if (!error)
		set_pte(shared_pte(trampoline), pfn_pte(vmalloc_to_pfn(sysenter_trampoline), prot));
	return error;
}

void sysenter_trampoline_undo(void)
{
	if (!trampoline)
		return;
	pte_clear(current->mm, trampoline, shared_pte(trampoline));
	kernel_call(kernel_flush_tlb_all, 0, 0, 0);
}
#endif
