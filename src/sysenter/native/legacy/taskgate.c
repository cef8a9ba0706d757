/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AMD's SYSCALL on Linux 2.4: which processors have it, its MSRs, and #DB, NMI and #MC
 * while it is on.
 *
 * SYSCALL does not set ESP. So at two instruction boundaries of syscall.S (the window) ESP
 * is the caller's at CPL 0: before a stub's first instruction and before SYSRET. An
 * interrupt gate does not switch stacks at CPL 0: the processor would push to the address
 * in the caller's ESP. And a caller can raise #DB at will, by TF. A task gate takes all
 * registers from a TSS and pushes nothing. IF masks all other vectors.
 *
 * 2.4 has one GDT and one IDT for all processors, and a task cannot be in use twice. So
 * each processor gets an IDT of its own. It is a copy of the kernel's, except for the
 * gates below. They lead to this processor's own tasks, in unused entries of the GDT.
 *
 * The task moves an interrupted SYSCALL out of the window. It builds the frame that an
 * interrupt gate would have pushed, in the same place, and continues at the kernel's own
 * handler (sysenter_gate). A task switch loses some registers. They are recovered so:
 *
 * CR3: on SMP from cpu_tlbstate.active_mm. The kernel writes that a few instructions before
 *	CR3, so the new tables may be loaded early, and once more by the kernel. On UP from
 *	the mm of current, if its cpu_vm_mask says that it is loaded. In schedule(), between
 *	switch_mm() and switch_to(), no mm says so. There swapper_pg_dir is loaded, which is
 *	enough for the kernel. The interrupted code is then single-stepped to a place where an
 *	mm says so; the kernel does not see these steps.
 * LDTR: each processor always has the same selector. The kernel rewrites the descriptor in
 *	the GDT (ldt_is_of).
 * FS, GS and others that belong to an LDT which has changed since: sysenter_segment_gone.
 * CR0.TS: from PF_USEDFPU, and where that does not tell, see sysenter_no_device.
 * DR7: the task switch clears the local enable bits, which gdb uses. They are restored from
 *	thread.debugreg.
 * TR, busy bits, NT: sysenter_gate restores them.
 *
 * An exception that comes within another one's task waits until that task ends (`pending`).
 */
#include <linux/config.h>
#include <linux/version.h>
#include "legacy.h"

#if !LINUX_2_2

#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/errno.h>
#include <asm/system.h>
#include <asm/processor.h>
#include <asm/segment.h>
#include <asm/desc.h>
#include <asm/ptrace.h>
#include <asm/page.h>
#include <asm/pgtable.h>
#include <asm/pgalloc.h>
#include "module.h"
#include "taskgate.h"
#include "addresses.h"

#define MSR_EFER	0xc0000080
#define MSR_STAR	0xc0000081
#define EFER_SCE	1

#define EFLAGS_FIXED	0x002
#define EFLAGS_TF	0x100
#define EFLAGS_IF	0x200
#define EFLAGS_VM	0x20000
#define DR6_BS		0x4000
#define DR7_LOST	0x155		/* bits that a task switch clears: L0 to L3, LE */
#define DR7_FIXED	0x400

#define TASK_GATE_HIGH	0x8500		/* present, DPL 0 */
#define TRAP_GATE	0x0f00
#define GATE_TYPE	0x1f00
#define GATE_PRESENT	0x8000
#define TYPE_BYTE	5		/* offset in a descriptor */
#define TSS_AVAILABLE	0x8900
#define IDT_LIMIT	(256 * 8 - 1)

/* GDT entries for each processor: the tasks' TSSs, and one for an LDT. */
#define SLOTS		(GATE_TASKS + 1)
#define BLOCK_ORDER	2		/* pages: struct cpu_gates, then the tasks */

extern char sysenter_syscall_stubs[], sysenter_syscall_leave[];
extern char sysenter_sysret[], sysenter_syscall_trapped[];
extern char sysenter_gate[], sysenter_gate_swallow[];
extern char sysenter_general_protection[], sysenter_not_present[];
extern char sysenter_no_device[], sysenter_trapped_tss[];
extern unsigned long sysenter_kernel_general_protection[];
extern unsigned long sysenter_kernel_not_present[];
extern unsigned long sysenter_kernel_no_device[];
extern unsigned long sysenter_slow[];

static struct cpu_gates *gates[NR_CPUS];
static unsigned long slots[NR_CPUS * SLOTS];	/* GDT entries that we use */
static int slots_used;
static struct table_register kernel_idt;
static const int task_vectors[GATE_TASKS] = { 1, 2, 18 };
#define MACHINE_CHECK_TASK	2

/* ---- the task ------------------------------------------------------------- */

static int from_user(const struct hw_tss *tss)
{
	return (tss->eflags & EFLAGS_VM) || (tss->cs & 3);
}

/* Move an interrupted SYSCALL out of the window. Returns whether it was in the window. */
static int leave_window(struct gate_task *this, struct hw_tss *at,
			unsigned long *handler)
{
	struct cpu_gates *cpu = this->cpu;

	if (at->eip == sysenter_in_copy(sysenter_sysret)) {
		at->esp = at->esp0 - sizeof(struct pt_regs);
		at->eip = sysenter_in_copy(sysenter_syscall_leave);
	} else if (at->eip == cpu->stub) {
		at->esp = at->esp0;
		if (at->eflags & EFLAGS_TF)	/* it skips the stub, which counts calls */
			++*(unsigned long *)((char *)cpu->tss + TSS_COUNT);
		at->eip = at->eflags & EFLAGS_TF
			? sysenter_in_copy(sysenter_syscall_trapped)
			: cpu->stub + SYSCALL_STUB_STACK;
		at->eflags &= ~EFLAGS_TF;
		/* A #DB without TF is a data breakpoint that a move to SS held back
		   (CVE-2018-8897): the call goes on, and the hit is not reported. */
		if (this->debug)
			*handler = sysenter_in_copy(sysenter_gate_swallow);
	} else
		return 0;
	if (!this->debug)
		++*(unsigned long *)(sysenter_in_copy(sysenter_slow) + SLOW_NMI);
	return 1;
}

/* The mm whose page tables were loaded; NULL if it cannot be told. */
static struct mm_struct *find_mm(struct cpu_gates *cpu, struct task_struct *task)
{
#ifdef SYSENTER_SMP
	return ((struct tlb_state *)ADDRESS_cpu_tlbstate)[cpu->number].active_mm;
#else
	struct mm_struct *mm = task->active_mm;

	/* NULL while schedule() has switched away from it for a kernel thread */
	if (mm && ((mm->cpu_vm_mask & 1)
		   || __pa(mm->pgd) == __pa(ADDRESS_swapper_pg_dir)))
		return mm;
	return NULL;
#endif
}

/* HAZARD: leave_mm() loads swapper_pg_dir (in kernels that have load_cr3()). So a processor
   that runs a kernel thread may have left the page tables that active_mm still names. It
   gets no TLB flushes for them any more, and they may be freed. */
static unsigned long find_cr3(struct cpu_gates *cpu, struct mm_struct *mm)
{
#if defined(SYSENTER_SMP) && defined(load_cr3)
	if (!(mm->cpu_vm_mask >> cpu->number & 1))
		mm = NULL;
#endif
	return __pa(mm ? (unsigned long)mm->pgd : ADDRESS_swapper_pg_dir);
}

/* Single-step the interrupted code once more, until the mm can be told. */
static void step(struct cpu_gates *cpu, struct hw_tss *at)
{
	/* in the end of another task: that one has set TF already */
	if (sysenter_is_in_copy(at->eip))
		return;
	at->eflags |= EFLAGS_TF;
	cpu->stepping = 1;
	cpu->steps++;
}

/* HAZARD: set_ldt_desc() writes the descriptor in five parts. A segment that is loaded while
   half of the base is new would come from anywhere, and be marked accessed there. So the LDT
   is used only if the descriptor's base is a known one. It is unknown only during a switch
   of tasks, and that loads fs and gs again at its end. */
static int ldt_is_of(struct cpu_gates *cpu, struct mm_struct *mm)
{
	unsigned long low = sysenter_gdt_table[cpu->ldt >> 3].a;
	unsigned long high = sysenter_gdt_table[cpu->ldt >> 3].b;
	unsigned long base = low >> 16 | (high & 0xff) << 16
		| (high & 0xff000000);

	return base == ADDRESS_default_ldt
		|| (mm && base == (unsigned long)mm->context.segments);
}

static unsigned long find_dr7(struct task_struct *task)
{
	unsigned long now, all = task->thread.debugreg[7];

	__asm__ __volatile__("movl %%db7,%0" : "=r" (now));
	/* do_debug() clears DR7 until the signal is delivered */
	if (all && ((now ^ all) & ~(DR7_LOST | DR7_FIXED)) == 0)
		return all;
	return now;
}

/* Our own single step is done. The kernel must not see it. */
static void end_step(struct cpu_gates *cpu, struct hw_tss *at)
{
	unsigned long dr6;

	__asm__ __volatile__("movl %%db6,%0" : "=r" (dr6));
	__asm__ __volatile__("movl %0,%%db6" : : "r" (dr6 & ~DR6_BS));
	at->eflags &= ~EFLAGS_TF;
	cpu->stepping = 0;
}

/*
 * sysenter_gate calls this in the task: interrupts off, no `current`, page tables of
 * swapper_pg_dir. Returns what to resume, on the stack where that is resumed. Returns NULL if
 * the exception came within another task; then that task is resumed first.
 */
asmlinkage struct gate_resume *sysenter_gate_body(struct gate_task *this)
{
	struct cpu_gates *cpu = this->cpu;
	struct hw_tss at = *cpu->tss;
	struct task_struct *task;
	struct mm_struct *mm;
	struct gate_resume *resume;
	unsigned long *sp, handler = this->handler;
	int user = from_user(&at), window;

	if ((this->tss.back_link & 0xffff) != cpu->tr) {
		/* only one can wait, and a machine check must not be lost */
		if (!cpu->pending || this == cpu->tasks[MACHINE_CHECK_TASK])
			cpu->pending = handler;
		return NULL;
	}
	window = !user && leave_window(this, &at, &handler);
	/* Less 1, because at a stub or at the entry the stack is still empty. */
	task = (struct task_struct *)(((user || window ? at.esp0 : at.esp) - 1)
				      & -SYSENTER_THREAD_SIZE);
	if (this->debug && !user && cpu->stepping) {
		end_step(cpu, &at);
		handler = sysenter_in_copy(sysenter_gate_swallow);
	}
	mm = find_mm(cpu, task);
	if (!mm)
		step(cpu, &at);

	sp = (unsigned long *)(user ? at.esp0 : at.esp);
	if (user) {
		if (at.eflags & EFLAGS_VM) {
			*--sp = at.gs & 0xffff;
			*--sp = at.fs & 0xffff;
			*--sp = at.ds & 0xffff;
			*--sp = at.es & 0xffff;
			at.gs = at.fs = at.ds = at.es = 0;
		}
		*--sp = at.ss & 0xffff;
		*--sp = at.esp;
	}
	*--sp = at.eflags;
	*--sp = at.cs & 0xffff;
	*--sp = at.eip;
	resume = (struct gate_resume *)sp - 1;
	resume->tss_type = cpu->tss_type;
	resume->tr = cpu->tr;
	resume->own_type = this->type;
	resume->cr3 = find_cr3(cpu, mm);
	resume->clear_ts = task->flags & PF_USEDFPU;
	resume->dr7 = find_dr7(task);
	resume->gs = at.gs & 0xffff;
	resume->fs = at.fs & 0xffff;
	resume->es = at.es & 0xffff;
	resume->ds = at.ds & 0xffff;
	resume->segments_ldt = ldt_is_of(cpu, mm) ? cpu->ldt : 0;
	resume->ldt = cpu->ldt;
	resume->eflags = EFLAGS_FIXED;
	if (this->trap_gate && handler == this->handler)
		resume->eflags |= at.eflags & EFLAGS_IF;
	resume->edi = at.edi;
	resume->esi = at.esi;
	resume->ebp = at.ebp;
	resume->ebx = at.ebx;
	resume->edx = at.edx;
	resume->ecx = at.ecx;
	resume->eax = at.eax;
	resume->handler = handler;
	resume->kernel_cs = __KERNEL_CS;
	resume->kernel_eflags = resume->eflags;
	return resume;
}

/* ---- which processors have the instruction ------------------------------------ */

static void read_msr(unsigned int msr, unsigned long *low, unsigned long *high)
{
	__asm__ __volatile__("rdmsr" : "=a" (*low), "=d" (*high) : "c" (msr));
}

static void write_msr(unsigned int msr, unsigned long low, unsigned long high)
{
	__asm__ __volatile__("wrmsr" : : "c" (msr), "a" (low), "d" (high));
}

static void write_efer(unsigned long set, unsigned long clear)
{
	unsigned long low, high;

	read_msr(MSR_EFER, &low, &high);
	write_msr(MSR_EFER, (low | set) & ~clear, high);
}

/*
 * CPUID is not enough: Intel's processors have the instruction in 64-bit mode only, and an
 * emulator may keep EFER.SCE off in a 32-bit machine. While EFER.SCE is tried out, STAR is
 * still 0; but no user code of this processor runs meanwhile.
 */
int sysenter_has_syscall(void)
{
	unsigned long eax, ebx, ecx, edx, low, high;

	__asm__ __volatile__("cpuid" : "=a" (eax), "=b" (ebx), "=c" (ecx),
			     "=d" (edx) : "0" (0));
	if (ebx != 0x68747541 || edx != 0x69746e65 || ecx != 0x444d4163)
		return 0;			/* AuthenticAMD */
	__asm__ __volatile__("cpuid" : "=a" (eax), "=b" (ebx), "=c" (ecx),
			     "=d" (edx) : "0" (0x80000000));
	if (eax < 0x80000001)
		return 0;
	__asm__ __volatile__("cpuid" : "=a" (eax), "=b" (ebx), "=c" (ecx),
			     "=d" (edx) : "0" (0x80000001));
	if (!(edx & 1 << 11))
		return 0;
	read_msr(MSR_EFER, &low, &high);
	if (low & EFER_SCE)
		return 0;			/* another module uses it */
	write_msr(MSR_EFER, low | EFER_SCE, high);
	read_msr(MSR_EFER, &eax, &edx);
	write_msr(MSR_EFER, low, high);
	return eax & EFER_SCE;
}

/* ---- a processor's gates ------------------------------------------------------ */

static void load_idt(const void *table)
{
	struct table_register idt;

	idt.limit = IDT_LIMIT;
	idt.base = (unsigned long)table;
	__asm__ __volatile__("lidt %0" : : "m" (idt));
}

/* Each processor runs this, interrupts off. */
static void turn_on(void)
{
	int cpu = THIS_CPU;

	load_idt(gates[cpu]->idt);
	/* SYSRET: CS = the upper half, SS = that + 8 */
	write_msr(MSR_STAR, gates[cpu]->stub, __USER_CS << 16 | __KERNEL_CS);
	write_efer(EFER_SCE, 0);
}

static void turn_off(void)
{
	write_efer(0, EFER_SCE);
	write_msr(MSR_STAR, 0, 0);
	load_idt((void *)kernel_idt.base);
}

static unsigned long gate_target(const unsigned long *gate)
{
	return (gate[0] & 0xffff) | (gate[1] & 0xffff0000);
}

/* Send the vector to a handler in the copy, and tell that handler the kernel's. */
static void point_gate(unsigned long *idt, int vector, const void *to,
		     const void *kernels)
{
	unsigned long *gate = idt + 2 * vector, target = sysenter_in_copy(to);

	*(unsigned long *)sysenter_in_copy(kernels) = gate_target(gate);
	gate[0] = (gate[0] & 0xffff0000) | (target & 0xffff);
	gate[1] = (gate[1] & 0xffff) | (target & 0xffff0000);
}

static void make_task(struct cpu_gates *cpu, struct gate_task *task,
		      int vector, unsigned long slot)
{
	unsigned long *gate = cpu->idt + 2 * vector, base = (unsigned long)task;
	unsigned long *descriptor = (unsigned long *)&sysenter_gdt_table[slot];

	task->tss.cr3 = __pa(ADDRESS_swapper_pg_dir);
	task->tss.eip = sysenter_in_copy(sysenter_gate);
	task->tss.eflags = EFLAGS_FIXED;
	task->tss.ebx = base;
	task->tss.esp = base + GATE_TASK_BYTES;
	task->tss.cs = __KERNEL_CS;
	task->tss.ss = task->tss.ds = task->tss.es = __KERNEL_DS;
	task->tss.io_bitmap = sizeof(struct hw_tss) << 16;	/* none */
	task->cpu = cpu;
	task->handler = gate_target(gate);
	task->debug = vector == 1;
	task->trap_gate = (gate[1] & GATE_TYPE) == TRAP_GATE;
	task->type = (unsigned char *)descriptor + TYPE_BYTE;
	descriptor[0] = base << 16 | (sizeof(struct hw_tss) - 1);
	descriptor[1] = (base & 0xff000000) | TSS_AVAILABLE | (base >> 16 & 0xff);
	if (gate[1] & GATE_PRESENT) {
		gate[0] = slot << 19;
		gate[1] = TASK_GATE_HIGH;
	}
}

static void make_gates(struct cpu_gates *cpu, unsigned long tss,
		       const unsigned long *slot)
{
	int i;

	memcpy(cpu->idt, (void *)kernel_idt.base, sizeof(cpu->idt));
	cpu->tss = (struct hw_tss *)tss;
	cpu->tss_type = (unsigned char *)&sysenter_gdt_table[cpu->tr >> 3]
		+ TYPE_BYTE;
	for (i = 0; i < GATE_TASKS; i++) {
		cpu->tasks[i] = (struct gate_task *)
			((unsigned long)cpu + (i + 1) * GATE_TASK_BYTES);
		make_task(cpu, cpu->tasks[i], task_vectors[i], slot[i]);
	}
	cpu->spare = (unsigned long *)&sysenter_gdt_table[slot[GATE_TASKS]];
	cpu->spare_selector = slot[GATE_TASKS] << 3;
	point_gate(cpu->idt, 7, sysenter_no_device, sysenter_kernel_no_device);
	point_gate(cpu->idt, 11, sysenter_not_present,
		 sysenter_kernel_not_present);
	point_gate(cpu->idt, 13, sysenter_general_protection,
		 sysenter_kernel_general_protection);
}

/* Find GDT entries that are 0. Linux 2.4 leaves some: 1, 6 and 7, two for each processor,
   and those of processors that are not there. */
static int find_slots(int wanted)
{
	struct table_register gdt;
	unsigned long i;

	__asm__ __volatile__("sgdt %0" : "=m" (gdt));
	slots_used = 0;
	for (i = 1; i <= gdt.limit >> 3 && slots_used < wanted; i++)
		if (!sysenter_gdt_table[i].a && !sysenter_gdt_table[i].b)
			slots[slots_used++] = i;
	return slots_used == wanted;
}

/* Prepare processor `number`. 0 or an error; free_gates() undoes it. */
static int prepare_cpu(int number)
{
	const struct cpu_report *report = &sysenter_cpus[number];
	struct cpu_gates *cpu;
	unsigned long stub = sysenter_in_copy(sysenter_syscall_stubs)
		+ number * SYSCALL_STUB_SIZE;

	cpu = (struct cpu_gates *)__get_free_pages(GFP_KERNEL, BLOCK_ORDER);
	if (!cpu)
		REFUSE("no memory for 16 KB in one piece\n");
	memset(cpu, 0, PAGE_SIZE << BLOCK_ORDER);
	gates[number] = cpu;
	cpu->number = number;
	cpu->tr = report->tr;
	cpu->ldt = report->ldt;
	cpu->stub = stub;
	*(unsigned long *)(stub + SYSCALL_PATCH_STACK) = report->tss
		+ (unsigned long)&((struct hw_tss *)0)->esp0;
	*(unsigned long *)(stub + SYSCALL_PATCH_COUNT) = report->tss + TSS_COUNT;
	make_gates(cpu, report->tss, slots + number * SLOTS);
	return 0;
}

/* On UP gcc 2 gives a spinlock four bytes and gcc 3 none. So struct mm_struct differs if the
   kernel was built by the other one. Is the mm found that is loaded now? */
static int finds_mm(void)
{
	static struct cpu_gates here;	/* 2 KB */
	struct mm_struct *mm;
	unsigned long cr3;

	here.number = smp_processor_id();
	mm = find_mm(&here, current);
	__asm__ __volatile__("movl %%cr3,%0" : "=r" (cr3));
	return mm && mm->pgd == __va(cr3);
}

static int prepare(void)
{
	int i, found, error = sysenter_tss_prepare();

	if (!finds_mm())
		REFUSE("mm_struct is not as built for: "
		       "SYSCALL wants the compiler of the kernel\n");
	if (!find_slots(CPUS * SLOTS)) {
		found = slots_used;
		slots_used = 0;
		REFUSE("the GDT has %d free entries, SYSCALL on %d processors "
		       "takes %d\n", found, CPUS, CPUS * SLOTS);
	}
	__asm__ __volatile__("sidt %0" : "=m" (kernel_idt));
	for (i = 0; i < CPUS && !error; i++)
		error = prepare_cpu(i);
	return error;
}

/* No processor uses these gates any more. */
static void free_gates(void)
{
	int i;

	for (i = 0; i < slots_used; i++)
		sysenter_gdt_table[slots[i]].a = sysenter_gdt_table[slots[i]].b = 0;
	slots_used = 0;
	for (i = 0; i < NR_CPUS; i++)
		if (gates[i]) {
			free_pages((unsigned long)gates[i], BLOCK_ORDER);
			gates[i] = NULL;
		}
}

static int report(char *page)
{
	unsigned long steps = 0;	/* single steps: the page tables could not be told */
	int i;

	for (i = 0; i < NR_CPUS; i++)
		steps += gates[i] ? gates[i]->steps : 0;
	return sprintf(page, "sysret 0x%08lx\nsteps %lu\n",
		       sysenter_in_copy(sysenter_sysret), steps);
}

const struct way sysenter_way_syscall = {
	name: "syscall",
	entry: sysenter_syscall_stubs,
	trapped: sysenter_trapped_tss,
	check: sysenter_tss_check,
	prepare: prepare,
	free: free_gates,
	turn_on: turn_on,
	turn_off: turn_off,
	calls: sysenter_tss_calls,
	report: report,
};

#endif
