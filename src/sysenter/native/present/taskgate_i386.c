// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * #DB, NMI and #MC while SYSCALL is on.
 *
 * SYSCALL does not set ESP. So at three instruction boundaries of syscall_i386.S (the
 * window) ESP is the caller's at CPL 0. An interrupt gate does not switch stacks at CPL 0:
 * the processor would push a frame to the address in the caller's ESP. And a caller can
 * raise #DB at will, by TF. A task gate takes all registers from a TSS and pushes nothing.
 *
 * So the three vectors that IF does not mask go through task gates, as the kernel's own #DF
 * does. The task
 *  1. moves an interrupted SYSCALL out of the window, onto a stack of the kernel's. At
 *     the beginning of the call it also moves it to the path for odd flags;
 *  2. builds the frame that an interrupt gate would have pushed, in the same place;
 *  3. resumes at the kernel's own handler, with all registers as they were.
 *
 * A task switch loads CR3 and LDTR from the TSS but saves neither (Intel SDM Vol. 3, "Task
 * Management"), and changes more. This is how the old values are recovered:
 *
 * CR3: from cpu_tlbstate.loaded_mm. Within switch_mm_irqs_off() that variable is
 *	LOADED_MM_SWITCHING until the next mm is written. There the task leaves init_mm's
 *	page tables loaded. They are enough for the kernel, but must not stay. So the
 *	task single-steps the interrupted code until loaded_mm is valid again. The kernel
 *	does not see these steps.
 * LDTR: derived from loaded_mm, as load_mm_ldt() does. While the mm is being switched the
 *	task loads no LDT, because switch_ldt() comes later. But gs may still have a selector
 *	of current's LDT then, so gs is loaded with that LDT in place.
 * TR, busy bits, CR0.TS, NT: TASK_RESUME restores them.
 * DR7's L bits: not restored. Linux uses the G bits.
 *
 * No #DB comes while its own task is busy: TF is off in the task, the task clears DR7 first
 * of all, and the handlers of NMI and #MC clear DR7 too. NMIs stay blocked in the task for
 * NMI. Each of the three exceptions may interrupt another one's task. The back link tells
 * what was interrupted.
 */
#include "sysenter.h"
#include "frame.h"
#include "taskgate.h"
#include <linux/atomic.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/vmalloc.h>
#include <asm/debugreg.h>
#include <asm/mmu_context.h>
#include <asm/ptrace.h>
#include <asm/segment.h>
#include <asm/trapnr.h>
#include "offsets.h"

#define TASK_PAGES_ORDER	1	/* an NMI in a task runs its handler on the task's stack */

/* tasks_i386.S: the tasks, and the displacements of their last jumps, in the order of gates[] */
void sysenter_task_debug(void);
void sysenter_task_nmi(void);
void sysenter_task_machine_check(void);
extern const unsigned long sysenter_task_handlers[];
extern const char sysenter_tasks[], sysenter_tasks_end[], sysenter_load_gs[], sysenter_load_gs_end[];

static struct {
	unsigned int vector;
	unsigned long *handler;
	void (*task)(void);
	u64 stock, ours;		/* gate descriptors */
} gates[] = {
	{ X86_TRAP_DB, &kernel_asm_exc_debug, sysenter_task_debug },
	{ X86_TRAP_NMI, &kernel_asm_exc_nmi, sysenter_task_nmi },
#ifdef CONFIG_X86_MCE
	{ X86_TRAP_MC, &kernel_asm_exc_machine_check, sysenter_task_machine_check },
#endif
};

static DEFINE_PER_CPU(struct sysenter_task *, tasks[ARRAY_SIZE(gates)]);
static DEFINE_PER_CPU(bool, stepping);	/* through switch_mm_irqs_off() */

/* GDT entries that asm/segment.h does not name: one for each gate, and the last for an LDT */
static const u8 free_slots[] = { 28, 29, 30, 11 };
#define GS_LDT_SLOT	free_slots[ARRAY_SIZE(free_slots) - 1]

static struct mm_struct **loaded_mm;	/* per-CPU offset of cpu_tlbstate.loaded_mm */
static u64 *idt;			/* a writable mapping of it */

/* As load_mm_ldt(). The mm's newest LDT, even if the IPI that announces it is still to come. */
static __always_inline u16 ldt_selector(struct sysenter_task *this, unsigned int slot, struct mm_struct *mm)
{
#ifdef CONFIG_MODIFY_LDT_SYSCALL
	struct ldt_struct *ldt = mm ? READ_ONCE(mm->context.ldt) : NULL;

	if (ldt) {
		set_tssldt_descriptor(&this->gdt[slot], (unsigned long)ldt->entries, DESC_LDT,
				      ldt->nr_entries * LDT_ENTRY_SIZE - 1);
		return slot * 8;
	}
#endif
	return 0;
}

/*
 * A DR_STEP from a single step through switch_mm_irqs_off() is ours: remove it. Other bits,
 * such as those of a breakpoint, are for the kernel. Returns whether it was the only one.
 */
static __always_inline bool is_only_our_step(void)
{
	unsigned long dr6;

	get_debugreg(dr6, 6);
	dr6 ^= DR6_RESERVED;
	if (!(dr6 & DR_STEP))
		return false;
	dr6 &= ~DR_STEP;
	set_debugreg(dr6 ^ DR6_RESERVED, 6);
	return !(dr6 & DR_TRAP_BITS);
}

/* Recover CR3 and LDTR of the interrupted task, and adjust its flags and gs for them. */
static __always_inline void find_mm(struct sysenter_task *this, struct x86_hw_tss *old, struct sysenter_resume *resume)
{
	struct mm_struct *mm = *this_cpu_ptr(loaded_mm);

	if (this->debug && __this_cpu_read(stepping) && !(old->cs & SEGMENT_RPL_MASK)) {
		this->swallow = is_only_our_step();
		old->flags &= ~X86_EFLAGS_TF;
		__this_cpu_write(stepping, false);
	}
	if (mm == (struct mm_struct *)MM_SWITCHING) {
		resume->cr3 = this->tss.__cr3;
		resume->ldt = 0;
		/*
		 * Not if an NMI has come at the end of the task for #DB: that task has set
		 * TF, and may still be busy.
		 */
		if (old->ip - (unsigned long)sysenter_tasks >= sysenter_tasks_end - sysenter_tasks) {
			old->flags |= X86_EFLAGS_TF;
			__this_cpu_write(stepping, true);
		}
	} else {
		resume->cr3 = __pa(mm->pgd);
		resume->ldt = ldt_selector(this, GDT_ENTRY_LDT, mm);
	}
	resume->gs_ldt = resume->ldt;
	if (old->gs & SEGMENT_TI_MASK && current->mm != mm)
		resume->gs_ldt = ldt_selector(this, GS_LDT_SLOT, current->mm);
}

/*
 * Move the interrupted code out of places where it must not be resumed. At the beginning of a
 * SYSCALL: to the path for odd flags, as the stub itself does. In sysenter_load_gs: to its
 * beginning. At the SYSRET: back to the beginning of the exit, whose frame is still intact.
 */
static __always_inline void move_on(struct sysenter_task *this, struct x86_hw_tss *old)
{
	unsigned long in_stubs = old->ip - (unsigned long)sysenter_syscall_stubs;

	if (in_stubs < sysenter_syscall_stubs_end - sysenter_syscall_stubs &&
	    in_stubs % SYSENTER_STUB_SIZE < SYSENTER_STUB_STACK) {
		if (in_stubs % SYSENTER_STUB_SIZE == 0)
			old->cx = old->sp;
		old->sp = this->entry_stack;
		old->ip = (unsigned long)sysenter_syscall_odd_flags;
	} else if (old->ip - (unsigned long)sysenter_load_gs < sysenter_load_gs_end - sysenter_load_gs) {
		old->ip = (unsigned long)sysenter_load_gs;	/* of another task */
	} else if (old->ip == sysenter_leave[0] + (sysenter_leave_syscall_sysret - sysenter_leave_syscall)) {
		old->sp = *this->sp1 - sizeof(struct pt_regs);
		old->ip = sysenter_leave[0];
	}
}

/* A task was interrupted, and the processor wrote over its state on entry. Restore that. */
static __always_inline void start_afresh(struct x86_hw_tss *old)
{
	struct sysenter_task *task = container_of(old, struct sysenter_task, tss);

	task->start.back_link = old->back_link;
	*old = task->start;
}

/*
 * The common part of all tasks. Returns what TASK_RESUME pops, on the stack of the code that
 * is resumed. Stack segments are flat, except for the IRET to a 16-bit stack (espfix).
 */
noinstr __visible struct sysenter_resume *sysenter_task_body(struct sysenter_task *this)
{
	unsigned long dr7 = local_db_save();
	struct desc_struct *from = &this->gdt[this->tss.back_link / 8];
	struct x86_hw_tss *old = (void *)get_desc_base(from);
	unsigned long base = 0, ss = __KERNEL_DS, *stack;
	struct sysenter_resume mm = { .cr3 = old->__cr3 }, *resume;

	this->swallow = false;
	if (this->tss.back_link == GDT_ENTRY_TSS * 8)
		find_mm(this, old, &mm);
	if (old->cs & SEGMENT_RPL_MASK) {
		stack = (unsigned long *)old->sp0;
		*--stack = old->ss;
		*--stack = old->sp;
	} else {
		move_on(this, old);
		ss = old->ss;
		if (ss == __ESPFIX_SS)
			base = get_desc_base(&this->gdt[GDT_ENTRY_ESPFIX_SS]);
		stack = (unsigned long *)(old->sp + base);
	}
	resume = (void *)stack - sizeof(*resume);
	*resume = (struct sysenter_resume) {
		.old_type = (u8 *)from + TSS_TYPE, .tr = this->tss.back_link,
		.own_type = (u8 *)&this->gdt[this->slot] + TSS_TYPE, .dr7 = dr7,
		.gs_ldt = mm.gs_ldt, .gs = old->gs, .ldt = mm.ldt, .cr3 = mm.cr3,
		.di = old->di, .si = old->si, .bp = old->bp, .bx = old->bx,
		.dx = old->dx, .cx = old->cx, .ax = old->ax,
		.fs = old->fs, .es = old->es, .ds = old->ds,
		.sp = (unsigned long)&resume->ip - base, .ss = ss,
		.ip = old->ip, .cs = old->cs, .flags = old->flags,
	};
	if (this->tss.back_link != GDT_ENTRY_TSS * 8)
		start_afresh(old);
	return resume;
}

/* Find it in switch_mm_irqs_off(): `movl $LOADED_MM_SWITCHING, %fs:cpu_tlbstate` */
static int __init find_loaded_mm(void)
{
	static const u8 head[] __initconst = { 0x64, 0xc7, 0x05 };
	const u8 *code = (const u8 *)kernel_switch_mm_irqs_off;
	u32 found = 0, value;
	unsigned int i;
	bool right;

	for (i = 0; i < 512; i++) {
		memcpy(&value, code + i + 7, sizeof(value));
		if (memcmp(code + i, head, sizeof(head)) || value != MM_SWITCHING)
			continue;
		memcpy(&value, code + i + 3, sizeof(value));
		if (found && found != value)
			found = 1;	/* not an address: two different operands */
		else
			found = value;
	}
	loaded_mm = (void *)found;
	preempt_disable();
	right = found > 1 && *this_cpu_ptr(loaded_mm) == current->active_mm;
	preempt_enable();
	if (right)
		return 0;
	pr_err("refused: this kernel's switch_mm_irqs_off() is not of the kind known here\n");
	return -ENOENT;
}

/* All CPUs share one IDT, and its mappings are read-only. So make a writable one. */
static int __init map_idt(void)
{
	struct desc_ptr where;
	unsigned int level, i;
	struct page *page;
	void *mapped;
	pte_t *pte;

	store_idt(&where);
	pte = lookup_address(where.address, &level);
	if (!pte || level != PG_LEVEL_4K) {
		pr_err("refused: this kernel's IDT is not mapped as known here\n");
		return -ENXIO;
	}
	page = pte_page(*pte);
	mapped = sysenter_fault() ? NULL : vmap(&page, 1, VM_MAP, PAGE_KERNEL);
	if (!mapped)
		return -ENOMEM;
	idt = mapped + offset_in_page(where.address);
	for (i = 0; i < ARRAY_SIZE(gates); i++) {
		gate_desc gate;

		gates[i].stock = idt[gates[i].vector];
		memcpy(&gate, &gates[i].stock, sizeof(gate));
		if (gate.bits.type != GATE_INTERRUPT || gate_offset(&gate) != *gates[i].handler) {
			pr_err("refused: the gate of exception %u is not the kernel's; another module has it\n",
			       gates[i].vector);
			return -EBUSY;
		}
	}
	return 0;
}

static int __init check_slots(void)
{
	unsigned int cpu, i;

	BUILD_BUG_ON(ARRAY_SIZE(free_slots) < ARRAY_SIZE(gates) + 1);
	for_each_possible_cpu(cpu)
		for (i = 0; i < ARRAY_SIZE(free_slots); i++) {
			if (desc_empty(&get_cpu_gdt_rw(cpu)[free_slots[i]]))
				continue;
			pr_err("refused: entry %u of the GDT is in use; another module has it\n", free_slots[i]);
			return -EBUSY;
		}
	return 0;
}

static int __init make_task(unsigned int cpu, unsigned int i)
{
	struct cpu_entry_area *area = ((struct cpu_entry_area *(*)(int))kernel_get_cpu_entry_area)(cpu);
	unsigned long pages = sysenter_fault() ? 0 : __get_free_pages(GFP_KERNEL | __GFP_ZERO, TASK_PAGES_ORDER);
	struct sysenter_task *task = (void *)pages;

	if (!task)
		return -ENOMEM;
	*task = (struct sysenter_task) {
		.tss = {
			.__cr3 = area->doublefault_stack.tss.__cr3,	/* init_mm's page tables */
			.ip = (unsigned long)gates[i].task, .cs = __KERNEL_CS,
			.sp = pages + (PAGE_SIZE << TASK_PAGES_ORDER), .ss = __KERNEL_DS,
			.ds = __USER_DS, .es = __USER_DS, .fs = __KERNEL_PERCPU,
			.flags = X86_EFLAGS_FIXED, .ax = pages, .bx = pages,
			.io_bitmap_base = sizeof(task->tss),		/* none */
		},
		.gdt = get_cpu_gdt_rw(cpu),
		.entry_stack = (unsigned long)(&area->entry_stack_page.stack + 1),
		.sp1 = &area->tss.x86_tss.sp1,
		.slot = free_slots[i],
		.debug = gates[i].vector == X86_TRAP_DB,
	};
	task->start = task->tss;
	per_cpu(tasks, cpu)[i] = task;
	set_tssldt_descriptor(&task->gdt[task->slot], pages, DESC_TSS, sizeof(task->tss) - 1);
	return 0;
}

/* HAZARD: an exception may come at any time, so the gate's two halves are written at once. */
static void write_gate(u64 *gate, u64 value)
{
	u64 old = *gate;

	while (!try_cmpxchg64(gate, &old, value))
		;
}

static void write_gates(unsigned int from, unsigned int to, bool ours)
{
	for (; from < to; from++)
		write_gate(&idt[gates[from].vector], ours ? gates[from].ours : gates[from].stock);
}

void sysenter_gates_write(bool ours)
{
	write_gates(0, ARRAY_SIZE(gates), ours);
}

static void passed(void *unused)
{
}

static void free_all(void)
{
	unsigned int cpu, i;

	for_each_possible_cpu(cpu) {
		for (i = 0; i < ARRAY_SIZE(gates); i++) {
			if (!per_cpu(tasks, cpu)[i])
				continue;
			memset(&get_cpu_gdt_rw(cpu)[GS_LDT_SLOT], 0, sizeof(struct desc_struct));
			memset(&get_cpu_gdt_rw(cpu)[free_slots[i]], 0, sizeof(struct desc_struct));
			free_pages((unsigned long)per_cpu(tasks, cpu)[i], TASK_PAGES_ORDER);
		}
	}
	if (idt)
		vunmap((void *)((unsigned long)idt & PAGE_MASK));
}

void sysenter_gates_close(void)
{
	/*
	 * The gate of #DB is the last. HAZARD: the task for NMI may have started a single
	 * step through switch_mm_irqs_off(), and only our task for #DB can end it. The
	 * kernel's handler would warn, and leave the wrong CR3 loaded.
	 */
	write_gates(1, ARRAY_SIZE(gates), false);
	on_each_cpu(passed, NULL, 1);	/* now none is in such a task or step */
	write_gates(0, 1, false);
	on_each_cpu(passed, NULL, 1);
	free_all();
}

int __init sysenter_gates_open(void)
{
	unsigned int cpu, i;
	gate_desc gate;
	int error = find_loaded_mm() ?: check_slots() ?: map_idt();

	for (i = 0; i < ARRAY_SIZE(gates) && !error; i++) {
		u32 relative = *gates[i].handler - (sysenter_task_handlers[i] + sizeof(relative));

		error = sysenter_poke(sysenter_task_handlers[i], &relative, sizeof(relative));
		pack_gate(&gate, GATE_TASK, 0, 0, 0, free_slots[i] * 8);
		memcpy(&gates[i].ours, &gate, sizeof(gate));
		for_each_possible_cpu(cpu)
			error = error ?: make_task(cpu, i);
	}
	if (error)
		free_all();
	else
		sysenter_gates_write(true);
	return error;
}
