/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SYSENTER for Linux 2.2 and 2.4: load, guard, unload.
 *
 * entry.S is what runs at every call; this file finds out whether it may, puts
 * it in place on all processors at once and takes it away again.
 */
#include <linux/config.h>
#include <linux/version.h>
#include <linux/module.h>
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/mm.h>
#include <linux/net.h>
#include <linux/string.h>
#include <linux/errno.h>
#include <linux/utsname.h>
#include <linux/proc_fs.h>
#include <linux/smp.h>
#include <linux/init.h>
#include <linux/interrupt.h>
#include <asm/system.h>
#include <asm/processor.h>
#include <asm/segment.h>
#include <asm/uaccess.h>
#include <asm/unistd.h>
#include <asm/desc.h>
#include <asm/atomic.h>
#include <linux/sys.h>
#include "legacy.h"
#include "module.h"
#include "addresses.h"

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

#define NAME "sysenter: "
#define REFUSE(args...) \
	do { printk(KERN_ERR NAME args); return -EINVAL; } while (0)

/* ---- entry.S ---------------------------------------------------------- */

extern char sysenter_text[], sysenter_text_end[];
extern unsigned long *sysenter_self_references[];
extern unsigned long *sysenter_self_references_end[];
extern char sysenter_debug[], sysenter_debug_entry[], sysenter_debug_distance[];
extern char sysenter_nmi[];
extern unsigned long sysenter_kernel_debug, sysenter_kernel_nmi, sysenter_gdt;
extern unsigned long sysenter_entry_stack_low, sysenter_entry_stack_high;
extern unsigned long sysenter_slow[], sysenter_global_count;
#if LINUX_2_2
extern char sysenter_entry_cruel[], sysenter_trapped_cruel[];
extern char sysenter_entry_gentle[], sysenter_trapped_gentle[];
extern char sysenter_entry_global[], sysenter_trapped_global[];
extern char sysenter_gdt_test[], sysenter_gdt_mark[];
#else
extern char sysenter_entry_tss[], sysenter_trapped_tss[];
extern char sysenter_syscall_stubs[], sysenter_sysret[];
#endif

static unsigned long text_page;		/* the copy that runs */
static unsigned long block;		/* the gentle ways: cells and slots */
#define BLOCK_ORDER 4			/* BLOCK_BYTES, and so aligned */
#define SLOT(cpu) (block + SLOTS_AT + (cpu) * SLOT_SIZE)
#define IN_COPY(symbol) (text_page + ((char *)&(symbol) - sysenter_text))
#define COPY_OF(symbol) (*(unsigned long *)IN_COPY(symbol))

enum { TSS, CRUEL, GENTLE, GENTLE_GLOBAL, SYSCALL };
static int chosen, by_syscall;
static const char *const way_names[] =
	{ "tss", "cruel", "gentle", "gentle-global", "syscall" };
static unsigned long entry_point;	/* in the copy */

unsigned long sysenter_in_copy(const void *symbol)
{
	return text_page + ((const char *)symbol - sysenter_text);
}

int sysenter_is_in_copy(unsigned long address)
{
	return address - text_page < PAGE_SIZE;
}

/* Calls that entry.S sends to the kernel's own entry: what takes, copies or
   rewrites pt_regs, and numbers that were not there to be looked at. */
#define KNOWN_CALLS 222
unsigned long sysenter_slow_call[NR_syscalls];
static const unsigned char takes_pt_regs[] = {
	2 /* fork */, 11 /* execve */, 110 /* iopl */, 113 /* vm86old */,
	119 /* sigreturn */, 120 /* clone */, 166 /* vm86 */,
	173 /* rt_sigreturn */, 72 /* sigsuspend */, 179 /* rt_sigsuspend */,
	186 /* sigaltstack */, 190 /* vfork */,
};

/* cruel: calls of each CPU */
unsigned long sysenter_counts[NR_CPUS << (COUNT_SHIFT - 2)];

asmlinkage void sysenter_segv(void)
{
	force_sig(SIGSEGV, current);
}

/* ---- the processor's tables -------------------------------------------- */

struct gate { unsigned long low, high; };

struct desc_struct *sysenter_gdt_table;
static struct gate *idt_table;
static struct gate kernel_gates[3];

static unsigned long gate_offset(const struct gate *gate)
{
	return (gate->low & 0xffff) | (gate->high & 0xffff0000);
}

/* One 8-byte store: other processors may take the vector meanwhile. Every
   processor with SYSENTER has CMPXCHG8B. */
static void set_gate(struct gate *at, struct gate to)
{
	struct gate old = *at;

	__asm__ __volatile__("1: lock; cmpxchg8b (%%esi)\n\t"
			     "jnz 1b"
			     : "+a" (old.low), "+d" (old.high)
			     : "b" (to.low), "c" (to.high), "S" (at)
			     : "memory", "cc");
}

static void set_gate_offset(int vector, unsigned long offset)
{
	struct gate gate = idt_table[vector];

	gate.low = (gate.low & 0xffff0000) | (offset & 0xffff);
	gate.high = (gate.high & 0xffff) | (offset & 0xffff0000);
	set_gate(&idt_table[vector], gate);
}

/* The TSS that TR points to. */
static unsigned long this_tss(void)
{
	unsigned long tr;
	struct desc_struct *d;

	__asm__ __volatile__("xorl %0,%0; str %w0" : "=r" (tr));
	d = &sysenter_gdt_table[tr >> 3];
	return (d->a >> 16) | (d->b & 0xff) << 16 | (d->b & 0xff000000);
}

/* ---- every processor ----------------------------------------------------- */

struct cpu_report {
	int seen;
	int has_sep, has_syscall;
	unsigned long msr_cs, idt, gdt, tss, tss_esp0;
	unsigned long flat[4];
	unsigned int signature;
};
static struct cpu_report reports[NR_CPUS];
static struct cpu_tables tables[NR_CPUS];

#ifdef SYSENTER_SMP
#define CPUS smp_num_cpus
#define THIS_CPU smp_processor_id()
#else
#define CPUS 1
#define THIS_CPU 0
#endif

#define EFLAGS_ID 0x00200000

static int has_cpuid(void)
{
	unsigned long before, after;

	__asm__ __volatile__(
		"pushfl; popl %0; movl %0,%1; xorl %2,%0; pushl %0; popfl\n\t"
		"pushfl; popl %0; pushl %1; popfl"
		: "=&r" (after), "=&r" (before) : "i" (EFLAGS_ID));
	return ((before ^ after) & EFLAGS_ID) != 0;
}

static void report_cpu(void *unused)
{
	struct cpu_report *r = &reports[THIS_CPU];
	struct table_register gdt, idt;
	unsigned int eax, ebx, ecx, edx;
	unsigned int family, model, stepping;
	int i;

	r->has_sep = r->has_syscall = 0;
	if (has_cpuid()) {
		__asm__ __volatile__("cpuid" : "=a" (eax), "=b" (ebx),
				     "=c" (ecx), "=d" (edx) : "0" (1));
		family = eax >> 8 & 15;
		model = eax >> 4 & 15;
		stepping = eax & 15;
		r->signature = eax;
		/* The first Pentium Pros set the bit and lack the instruction:
		   SDM, CPUID, "Identification of SYSENTER". */
		r->has_sep = (edx & 1 << 11) != 0
			&& !(family == 6 && model < 3 && stepping < 3);
		r->has_syscall = sysenter_has_syscall();
	}
	if (r->has_sep)
		r->msr_cs = sysenter_read_msr(MSR_SYSENTER_CS);
	__asm__ __volatile__("sgdt %0" : "=m" (gdt));
	__asm__ __volatile__("sidt %0" : "=m" (idt));
	r->gdt = gdt.base;
	r->idt = idt.base;
	sysenter_gdt_table = (struct desc_struct *)gdt.base;
	for (i = 0; i < 4; i++)
		r->flat[i] = (sysenter_gdt_table[(__KERNEL_CS >> 3) + i].a
			      == 0x0000ffff)
			&& (sysenter_gdt_table[(__KERNEL_CS >> 3) + i].b
			    & 0xffcffeff) == 0x00cf9200
			+ (i >= 2 ? 0x6000 : 0) + (i % 2 ? 0 : 0x0800);
	r->tss = this_tss();
	r->tss_esp0 = ((unsigned long *)r->tss)[1];
	tables[THIS_CPU].tss = r->tss;
	__asm__ __volatile__("xorl %0,%0; str %w0" : "=r" (tables[THIS_CPU].tr));
	__asm__ __volatile__("xorl %0,%0; sldt %w0" : "=r" (tables[THIS_CPU].ldt));
	r->seen = 1;
}

/* Hold all other processors, interrupts off, while one thing is done that none
   of them must see half done. */
static struct { unsigned long esp; struct task_struct *task; } held_at[NR_CPUS];
static void (*volatile on_release)(void);	/* run by each before it goes */

#ifdef SYSENTER_SMP
static volatile int hold_state;			/* HOLD, then RELEASE */
enum { HOLD = 1, RELEASE };
static atomic_t held, released;

static void hold_this_cpu(void *unused)
{
	int cpu = THIS_CPU;

	held_at[cpu].esp = (unsigned long)&cpu;
	held_at[cpu].task = current;
	mb();
	atomic_inc(&held);
	while (hold_state == HOLD)
		__asm__ __volatile__("rep; nop" : : : "memory");
	if (on_release)
		on_release();
	/* Text may have changed: the IRET of this interrupt serializes. */
	atomic_inc(&released);
}
#endif

static int hold_others(unsigned long *flags)
{
	on_release = NULL;
	memset(held_at, 0, sizeof(held_at));
#ifdef SYSENTER_SMP
	atomic_set(&held, 0);
	atomic_set(&released, 0);
	hold_state = HOLD;
	mb();
	/* No retry: 2.2 would sleep for it, and unloading holds a spinlock. */
	if (CPUS > 1 && smp_call_function(hold_this_cpu, NULL, 0, 0) != 0
	    && atomic_read(&held) != CPUS - 1) {
		hold_state = RELEASE;
		return -EBUSY;
	}
	while (atomic_read(&held) != CPUS - 1)
		__asm__ __volatile__("rep; nop" : : : "memory");
#endif
	__save_flags(*flags);
	__cli();
	/* Of our own stack only the call into the kernel counts. */
	held_at[THIS_CPU].esp = (unsigned long)current + SYSENTER_THREAD_SIZE
		- sizeof(struct pt_regs) - sizeof(long);
	held_at[THIS_CPU].task = current;
	return 0;
}

/* Let them go, each of us doing WHAT first. */
static void release_others(void (*what)(void), unsigned long flags)
{
	on_release = what;
#ifdef SYSENTER_SMP
	mb();
	hold_state = RELEASE;
#endif
	if (what)
		what();
#ifdef SYSENTER_SMP
	while (atomic_read(&released) != CPUS - 1)
		__asm__ __volatile__("rep; nop" : : : "memory");
#endif
	__restore_flags(flags);
}

/* ---- on and off ---------------------------------------------------------- */

static void turn_on(void)
{
	unsigned long stack;

	switch (chosen) {
	case SYSCALL:
		sysenter_syscall_on(THIS_CPU);
		return;
	case TSS:
		stack = this_tss() + TSS_ENTRY;
		break;
	case CRUEL:
		stack = (unsigned long)current + SYSENTER_THREAD_SIZE
			- CRUEL_ROOM;
		break;
	default:
		stack = SLOT(THIS_CPU + 1);
		break;
	}
	sysenter_write_msr(MSR_SYSENTER_ESP, stack);
	sysenter_write_msr(MSR_SYSENTER_EIP, entry_point);
	sysenter_write_msr(MSR_SYSENTER_CS, __KERNEL_CS);
}

/* With CS 0 SYSENTER is a #GP, as it was. */
static void turn_off(void)
{
	if (chosen == SYSCALL) {
		sysenter_syscall_off(THIS_CPU);
		return;
	}
	sysenter_write_msr(MSR_SYSENTER_CS, 0);
	sysenter_write_msr(MSR_SYSENTER_EIP, 0);
	sysenter_write_msr(MSR_SYSENTER_ESP, 0);
}

#if LINUX_2_2
#define JMP_REL32 0xe9
#define JMP_SIZE 5
static unsigned char kernel_switch_bytes[JMP_SIZE];
static const unsigned long switch_to_address = ADDRESS___switch_to;
void FASTCALL(sysenter_switch_to(struct task_struct *, struct task_struct *));
void sysenter_switch_to_end(void);

static void write_switch_to(const unsigned char *bytes)
{
	memcpy((void *)switch_to_address, bytes, JMP_SIZE);
	__asm__ __volatile__("jmp 1f\n1:" : : : "memory");
}

static void patch_switch_to(void)
{
	unsigned char jump[JMP_SIZE];

	memcpy(kernel_switch_bytes, (void *)switch_to_address, JMP_SIZE);
	jump[0] = JMP_REL32;
	*(long *)(jump + 1) = (unsigned long)sysenter_switch_to
		- (switch_to_address + JMP_SIZE);
	write_switch_to(jump);
}

/* schedule() is exported and jumps to __switch_to, so the address that
   System.map gave can be checked against the code that runs. */
static int schedule_jumps_to(unsigned long target)
{
	const unsigned char *p = (const unsigned char *)schedule;
	int i;

	for (i = 0; i < 8192; i++)
		if (p[i] == JMP_REL32 && (unsigned long)(p + i + JMP_SIZE)
		    + *(const long *)(p + i + 1) == target)
			return 1;
	return 0;
}
#endif

/* Is any word between ESP and the end of this stack an address in [low, high)? */
static int stack_has(struct task_struct *task, unsigned long esp,
		     unsigned long low, unsigned long high)
{
	unsigned long *word = (unsigned long *)(esp & ~3UL);
	unsigned long *end = (unsigned long *)
		((unsigned long)task + SYSENTER_THREAD_SIZE);

	if (word < (unsigned long *)task || word > end)
		return 1;			/* not a stack we can judge */
	for (; word < end; word++)
		if (*word >= low && *word < high)
			return 1;
	return 0;
}

/*
 * Somebody is between entry and exit: asleep in a call, or interrupted, or
 * waiting for a page of the user's stack. With the other processors held every
 * task's live stack can be read, and whoever has to come back through our text
 * has an address in it there. Nobody can be on the way in: that needs a
 * processor, and those are held outside.
 */
static int in_use(void)
{
	struct task_struct *task;
	unsigned long esp;
	int cpu;

	for_each_task(task) {
#if LINUX_2_2
		esp = task->tss.esp;
#else
		esp = task->thread.esp;
#endif
		for (cpu = 0; cpu < NR_CPUS; cpu++)
			if (held_at[cpu].task == task)
				esp = held_at[cpu].esp;
		if (task->state == TASK_ZOMBIE)
			continue;
		if (stack_has(task, esp, text_page, text_page + PAGE_SIZE))
			return 1;
#if LINUX_2_2
		if (chosen == CRUEL
		    && stack_has(task, esp, (unsigned long)sysenter_switch_to,
				 (unsigned long)sysenter_switch_to_end))
			return 1;
#endif
	}
#if LINUX_2_2
	/* The idle tasks of the other processors are on no list of tasks. */
	for (cpu = 0; chosen == CRUEL && cpu < NR_CPUS; cpu++)
		if (held_at[cpu].task
		    && stack_has(held_at[cpu].task, held_at[cpu].esp,
				 (unsigned long)sysenter_switch_to,
				 (unsigned long)sysenter_switch_to_end))
			return 1;
#endif
	return 0;
}

#if LINUX_2_2
/* Was a held processor interrupted inside the bytes to be written? */
static int inside_jump(void)
{
	int cpu;

	for (cpu = 0; cpu < NR_CPUS; cpu++)
		if (held_at[cpu].task && cpu != THIS_CPU
		    && stack_has(held_at[cpu].task, held_at[cpu].esp,
				 switch_to_address + 1,
				 switch_to_address + JMP_SIZE))
			return 1;
	return 0;
}
#endif

static int on;

/* The kernel's gate of vector 1, and of 2 as well. */
static int changes_gates(void)
{
	return chosen != SYSCALL;
}

static int uses_entry_stack(void)
{
	return chosen != CRUEL && chosen != SYSCALL;
}

static int uses_block(void)
{
	return chosen == GENTLE || chosen == GENTLE_GLOBAL;
}

#if LINUX_2_2
/* A block that comes later has other cells. */
static void clear_marks(void)
{
	int i;

	for (i = 0; i < NR_TASKS; i++)
		((unsigned char *)&sysenter_gdt_table[_TSS(i) >> 3])
			[DESCRIPTOR_AVL_BYTE] &= ~DESCRIPTOR_AVL;
}
#endif

static int go_on(void)
{
	unsigned long flags;
	int tries = 100;

	for (;;) {
		if (hold_others(&flags) == 0) {
#if LINUX_2_2
			if (chosen != CRUEL || !inside_jump())
				break;
			release_others(NULL, flags);
#else
			break;
#endif
		}
		if (--tries == 0)
			REFUSE("the other processors cannot be held\n");
		schedule();
	}
#if LINUX_2_2
	if (chosen == CRUEL)
		patch_switch_to();
#endif
	kernel_gates[1] = idt_table[1];
	kernel_gates[2] = idt_table[2];
	COPY_OF(sysenter_kernel_debug) = gate_offset(&kernel_gates[1]);
	COPY_OF(sysenter_kernel_nmi) = gate_offset(&kernel_gates[2]);
	if (changes_gates())
		set_gate_offset(1, IN_COPY(*sysenter_debug));
	if (uses_entry_stack())
		set_gate_offset(2, IN_COPY(*sysenter_nmi));
	on = 1;
	release_others(turn_on, flags);
	return 0;
}

/* 0, or why not. Nothing has changed if not. */
static int go_off(void)
{
	unsigned long flags;

	if (!on)
		return 0;
	if (hold_others(&flags))
		return -EBUSY;
	if (in_use()
	    || (changes_gates()
		&& gate_offset(&idt_table[1]) != IN_COPY(*sysenter_debug))
	    || (uses_entry_stack()
		&& gate_offset(&idt_table[2]) != IN_COPY(*sysenter_nmi))) {
		release_others(NULL, flags);
		return -EBUSY;
	}
#if LINUX_2_2
	if (chosen == CRUEL) {
		if (inside_jump()) {
			release_others(NULL, flags);
			return -EBUSY;
		}
		write_switch_to(kernel_switch_bytes);
	}
	if (chosen == GENTLE)
		clear_marks();
#endif
	if (changes_gates())
		set_gate(&idt_table[1], kernel_gates[1]);
	if (uses_entry_stack())
		set_gate(&idt_table[2], kernel_gates[2]);
	on = 0;
	release_others(turn_off, flags);
	return 0;
}

/* Asked by delete_module in place of the use count, which here tells how many
   have /proc/sysenter open; a yes is followed by cleanup_module at once, with
   nothing in between that could load it again. */
static int can_unload(void)
{
	return GET_USE_COUNT(&__this_module) ? -EBUSY : go_off();
}

/* ---- /proc/sysenter ------------------------------------------------------ */

static unsigned long calls_on(int cpu)
{
	switch (chosen) {
	case TSS:
	case SYSCALL:
		return *(unsigned long *)(reports[cpu].tss + TSS_COUNT);
	case CRUEL:
		return sysenter_counts[cpu << (COUNT_SHIFT - 2)];
	case GENTLE:
		return *(unsigned long *)(SLOT(cpu) + SLOT_COUNT);
	default:
		return COPY_OF(sysenter_global_count);
	}
}

static int read_proc(char *page, char **start, off_t off, int count, int *eof,
		     void *data)
{
	static const char *const names[SLOW_COUNTS] = { "declined", "exit_work",
		"fault", "vm86", "trapped", "nmi" };
	unsigned long *slow = (unsigned long *)IN_COPY(*sysenter_slow);
	int len, i, table = 0;

	for (i = 0; i < NR_syscalls; i++)
		table += !sysenter_slow_call[i];
	len = sprintf(page, "release %s\nway %s\nentry 0x%08lx\ntable %d\n",
		      UTS_RELEASE, way_names[chosen], entry_point, table);
	for (i = 0; i < CPUS; i++)
		len += sprintf(page + len, "calls cpu%d %lu\n", i, calls_on(i));
	for (i = 0; i < SLOW_COUNTS; i++)
		len += sprintf(page + len, "%s %lu\n", names[i], slow[i]);
#if !LINUX_2_2
	if (chosen == SYSCALL)
		len += sprintf(page + len, "sysret 0x%08lx\nsteps %lu\n",
			       IN_COPY(*sysenter_sysret),
			       sysenter_gate_steps());
#endif
#if LINUX_2_2
	if (chosen == CRUEL) {
		len += sprintf(page + len, "switch_to");
		for (i = 0; i < JMP_SIZE; i++)
			len += sprintf(page + len, " %02x",
				       kernel_switch_bytes[i]);
		len += sprintf(page + len, " ->");
		for (i = 0; i < JMP_SIZE; i++)
			len += sprintf(page + len, " %02x",
				       ((unsigned char *)switch_to_address)[i]);
		len += sprintf(page + len, "\n");
	}
#endif
	*eof = 1;
	if (off >= len)
		return 0;
	*start = page + off;
	len -= off;
	return len > count ? count : len;
}

/* Who has the file open will come back to read_proc. */
#if LINUX_2_2
static void count_reader(struct inode *inode, int opened)
{
	if (opened)
		MOD_INC_USE_COUNT;
	else
		MOD_DEC_USE_COUNT;
}
#endif

static void show_report(void)
{
	struct proc_dir_entry *proc = create_proc_entry("sysenter", 0444, NULL);

	if (!proc)
		return;
#if LINUX_2_2
	proc->fill_inode = count_reader;
#else
	proc->owner = &__this_module;
#endif
	proc->read_proc = read_proc;
}

/* ---- the guard ----------------------------------------------------------- */

/* The kernel's own handler of vector 0x80 calls through sys_call_table within
   its first instructions: call *table(,%eax,4). */
static int calls_through(unsigned long handler, unsigned long table)
{
	const unsigned char *p = (const unsigned char *)handler;
	int i;

	for (i = 0; i < 128; i++)
		if (p[i] == 0xff && p[i + 1] == 0x14 && p[i + 2] == 0x85
		    && *(const unsigned long *)(p + i + 3) == table)
			return 1;
	return 0;
}

/* Asks nothing whose place a header decides (current, and with it the number of
   this CPU): until it has said yes this may be another kernel than the one that
   the headers are of. */
static int check_kernel(void)
{
	struct table_register idt;

	__asm__ __volatile__("sidt %0" : "=m" (idt));
	idt_table = (struct gate *)idt.base;
	if (strcmp(system_utsname.release, UTS_RELEASE) != 0)
		REFUSE("built for %s, this is %s\n", UTS_RELEASE,
		       system_utsname.release);
	if ((unsigned long)sock_register != ADDRESS_sock_register)
		REFUSE("built for a kernel with sock_register at 0x%08lx, here "
		       "it is at 0x%08lx: build with this kernel's System.map\n",
		       (unsigned long)ADDRESS_sock_register,
		       (unsigned long)sock_register);
#if LINUX_2_2
	if ((unsigned long)&bh_mask != ADDRESS_bh_mask
	    || (unsigned long)&bh_active != ADDRESS_bh_active)
		REFUSE("System.map and the kernel differ in bh_mask or bh_active\n");
#endif
	if (gate_offset(&idt_table[0x80]) != ADDRESS_system_call)
		REFUSE("int 0x80 goes to 0x%08lx, System.map's system_call is "
		       "0x%08lx: another module has taken it, or the map is of "
		       "another kernel\n", gate_offset(&idt_table[0x80]),
		       (unsigned long)ADDRESS_system_call);
	if (!calls_through(ADDRESS_system_call, ADDRESS_sys_call_table))
		REFUSE("system_call does not call through the sys_call_table "
		       "of System.map\n");
	if (ADDRESS_ret_from_sys_call <= ADDRESS_system_call
	    || ADDRESS_ret_from_sys_call > ADDRESS_system_call + 256)
		REFUSE("ret_from_sys_call of System.map is not behind "
		       "system_call\n");
	return 0;
}

/* By which instruction; that all processors have. */
static int choose_entry(int with_sep, int with_syscall)
{
	int automatic = !entry || strcmp(entry, "auto") == 0, with;

	if (!automatic && strcmp(entry, "sysenter") && strcmp(entry, "syscall"))
		REFUSE("entry=%s: not auto, sysenter or syscall\n", entry);
	by_syscall = automatic ? !with_sep && with_syscall
		: strcmp(entry, "syscall") == 0;
#if LINUX_2_2
	if (by_syscall)
		REFUSE("entry=syscall: this is for 2.4\n");
#endif
	with = by_syscall ? with_syscall : with_sep;
	if (with == 0)
		REFUSE("this processor has no %s%s (CPUID 0x%x)\n",
		       by_syscall ? "SYSCALL for 32-bit kernels" : "SYSENTER",
		       automatic ? " and no SYSCALL for this kernel" : "",
		       reports[0].signature);
	if (with != CPUS)
		REFUSE("only %d of %d processors have %s\n", with, CPUS,
		       by_syscall ? "SYSCALL" : "SYSENTER");
	return 0;
}

static int check_cpus(void)
{
	int cpu, with = 0, with_syscall = 0;

	memset(reports, 0, sizeof(reports));
	report_cpu(NULL);
#ifdef SYSENTER_SMP
	if (CPUS > 1 && smp_call_function(report_cpu, NULL, 1, 1) != 0)
		REFUSE("a processor does not answer\n");
#endif
	for (cpu = 0; cpu < CPUS; cpu++) {
		struct cpu_report *r = &reports[cpu];

		if (!r->seen)
			REFUSE("processor %d does not answer\n", cpu);
		with += r->has_sep;
		with_syscall += r->has_syscall;
	}
	if (choose_entry(with, with_syscall))
		return -EINVAL;
	for (cpu = 0; cpu < CPUS; cpu++) {
		struct cpu_report *r = &reports[cpu];

		if (r->msr_cs)
			REFUSE("this kernel uses SYSENTER itself "
			       "(SYSENTER_CS is 0x%lx)\n", r->msr_cs);
		if (r->idt != reports[0].idt || r->gdt != reports[0].gdt)
			REFUSE("the processors' GDTs or IDTs differ\n");
		if (!(r->flat[0] && r->flat[1] && r->flat[2] && r->flat[3]))
			REFUSE("segments 0x%x to 0x%x are not the flat ones "
			       "that SYSENTER and SYSEXIT load\n", __KERNEL_CS,
			       __USER_DS);
	}
	sysenter_gdt_table = (struct desc_struct *)reports[0].gdt;
	return 0;
}

#if LINUX_2_2
/* The gentle way's mark goes when the kernel makes a new task: does it write
   the descriptor's byte whole? Sought is movb $0,6(reg). */
static int kernel_clears_marks(void)
{
#ifdef ADDRESS_set_tss_desc
	const unsigned char *p = (const unsigned char *)ADDRESS_set_tss_desc;
	int i;

	for (i = 0; i < 64; i++)
		if (p[i] == 0xc6 && (p[i + 1] & 0xf8) == 0x40
		    && p[i + 2] == DESCRIPTOR_AVL_BYTE && p[i + 3] == 0)
			return 1;
#endif
	return 0;
}
#endif

static int choose_way(void)
{
#if LINUX_2_2
	chosen = CRUEL;
	if (way && strcmp(way, "gentle") == 0)
		chosen = GENTLE;
	else if (way && strcmp(way, "gentle-global") == 0)
		chosen = GENTLE_GLOBAL;
	else if (way && strcmp(way, "cruel") != 0)
		REFUSE("way=%s: not cruel, gentle or gentle-global\n", way);
	if (chosen == GENTLE_GLOBAL && CPUS > 1)
		REFUSE("way=gentle-global uses one variable for all %d "
		       "processors: take gentle\n", CPUS);
	if (chosen == CRUEL && !schedule_jumps_to(switch_to_address))
		REFUSE("schedule() does not jump to System.map's __switch_to: "
		       "way=gentle needs no patch\n");
	if (chosen != CRUEL) {
		struct task_struct **task =
			(struct task_struct **)ADDRESS_task;

		if (task[0] != &init_task
		    || task[(current->tss.tr - TSS0_SELECTOR) >> 4] != current)
			REFUSE("System.map's task[] is not indexed by TR\n");
		if (_TSS(NR_TASKS) > SLOTS_AT
		    || NR_CPUS * SLOT_SIZE > BLOCK_BYTES - SLOTS_AT - SLOT_SIZE)
			REFUSE("%d tasks, %d processors are too many for a "
			       "gentle way: take cruel\n", NR_TASKS, NR_CPUS);
	}
	if (chosen == GENTLE && !kernel_clears_marks())
		REFUSE("set_tss_desc() does not clear the mark of way=gentle: "
		       "take cruel\n");
#else
	chosen = by_syscall ? SYSCALL : TSS;
	if (way && strcmp(way, "tss") != 0)
		REFUSE("way=%s: 2.4 has one, tss\n", way);
	if (reports[THIS_CPU].tss_esp0
	    != (unsigned long)current + SYSENTER_THREAD_SIZE)
		REFUSE("TR's TSS does not follow the task's stack\n");
#endif
	return 0;
}

/* ---- the copy ------------------------------------------------------------ */

static int inside(unsigned long address)
{
	return address >= (unsigned long)sysenter_text
		&& address <= (unsigned long)sysenter_text_end;
}

/* The loader has told the kernel where our exception table is; what it says
   of entry.S moves with the text, and it must stay sorted. */
static void move_exception_table(unsigned long delta)
{
	struct exception_table_entry *first, *last, *p, *q, swap;

	first = (struct exception_table_entry *)__this_module.ex_table_start;
	last = (struct exception_table_entry *)__this_module.ex_table_end;
	for (p = first; p < last; p++) {
		if (inside(p->insn))
			p->insn += delta;
		if (inside(p->fixup))
			p->fixup += delta;
		swap = *p;
		for (q = p; q > first && q[-1].insn > swap.insn; q--)
			*q = q[-1];
		*q = swap;
	}
}

static int copy_text(void)
{
	unsigned long size = sysenter_text_end - sysenter_text;
	unsigned long delta, trapped, plain;
	unsigned long **ref;

	if (size > PAGE_SIZE || __this_module.ex_table_start == NULL)
		REFUSE("entry text is %lu bytes long, exception table at %p\n",
		       size, __this_module.ex_table_start);
	text_page = __get_free_page(GFP_KERNEL);
	if (uses_block() && (block = __get_free_pages(GFP_KERNEL,
						      BLOCK_ORDER)) != 0)
		memset((void *)block, 0, BLOCK_BYTES);
	if (!text_page || (uses_block() && !block))
		REFUSE("no memory for a page%s\n",
		       uses_block() ? " and 64 KB in one piece" : "");
	memset((void *)text_page, 0xcc, PAGE_SIZE);
	memcpy((void *)text_page, sysenter_text, size);
	delta = text_page - (unsigned long)sysenter_text;
	for (ref = sysenter_self_references;
	     ref < sysenter_self_references_end; ref++)
		*(unsigned long *)((unsigned long)*ref + delta) += delta;

#if LINUX_2_2
	switch (chosen) {
	case CRUEL:
		plain = IN_COPY(*sysenter_entry_cruel);
		trapped = IN_COPY(*sysenter_trapped_cruel);
		break;
	case GENTLE:
		plain = IN_COPY(*sysenter_entry_gentle);
		trapped = IN_COPY(*sysenter_trapped_gentle);
		break;
	default:
		plain = IN_COPY(*sysenter_entry_global);
		trapped = IN_COPY(*sysenter_trapped_global);
		break;
	}
#else
	plain = IN_COPY(*sysenter_entry_tss);
	trapped = IN_COPY(*sysenter_trapped_tss);
	if (chosen == SYSCALL)
		plain = IN_COPY(*sysenter_syscall_stubs);
#endif
	entry_point = plain;
	*(unsigned long *)(IN_COPY(*sysenter_debug_entry) - 4) = plain;
	*(unsigned long *)(IN_COPY(*sysenter_debug_distance) - 4)
		= trapped - plain;

	COPY_OF(sysenter_gdt) = (unsigned long)sysenter_gdt_table;
	if (chosen == TSS || chosen == SYSCALL) {
		int cpu;
		unsigned long low = ~0UL, high = 0;

		for (cpu = 0; cpu < CPUS; cpu++) {
			unsigned long tss = reports[cpu].tss;

			*(unsigned long *)(tss + TSS_COUNT) = 0;
			if (tss < low)
				low = tss;
			if (tss + TSS_ENTRY > high)
				high = tss + TSS_ENTRY;
		}
		COPY_OF(sysenter_entry_stack_low) = low;
		COPY_OF(sysenter_entry_stack_high) = high + 1;
	} else if (uses_block()) {
		COPY_OF(sysenter_entry_stack_low) = block;
		COPY_OF(sysenter_entry_stack_high) = block + BLOCK_BYTES;
	}
#if LINUX_2_2
	/* The four bytes before the mark, which is the last of each. */
	*(unsigned long *)(IN_COPY(*sysenter_gdt_test) - 5) =
	*(unsigned long *)(IN_COPY(*sysenter_gdt_mark) - 5) =
		(unsigned long)sysenter_gdt_table + DESCRIPTOR_AVL_BYTE - block;
#endif
	move_exception_table(delta);
	return chosen == SYSCALL ? sysenter_gates_make(CPUS, tables) : 0;
}

static void free_copy(void)
{
	sysenter_gates_free();
	if (text_page)
		free_page(text_page);
	if (block)
		free_pages(block, BLOCK_ORDER);
}

/* ---- load and unload ----------------------------------------------------- */

static void choose_slow_calls(void)
{
	int i;

	for (i = 0; i < NR_syscalls; i++)
		sysenter_slow_call[i] = i >= KNOWN_CALLS;
	for (i = 0; i < sizeof(takes_pt_regs); i++)
		sysenter_slow_call[takes_pt_regs[i]] = 1;
}

int init_module(void)
{
	int error;

	if ((error = check_kernel()) != 0 || (error = check_cpus()) != 0
	    || (error = choose_way()) != 0)
		return error;
	choose_slow_calls();
	if ((error = copy_text()) != 0 || (error = go_on()) != 0) {
		free_copy();
		return error;
	}
	show_report();
	__this_module.can_unload = can_unload;
	/* A kernel that looks for modules to reap asks can_unload, and may then
	   let this one be: it would stay, and be off. */
	__this_module.flags &= ~MOD_AUTOCLEAN;
	printk(KERN_INFO NAME "%s, way %s, %d processor%s, entry at 0x%08lx\n",
	       UTS_RELEASE, way_names[chosen], CPUS, CPUS == 1 ? "" : "s",
	       entry_point);
	return 0;
}

void cleanup_module(void)
{
	remove_proc_entry("sysenter", NULL);
	/* can_unload has done it; a kernel that did not ask waits here. */
	while (go_off() != 0)
		schedule();
	free_copy();
	printk(KERN_INFO NAME "unloaded\n");
}
