// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * For tests only: a module that gets in the way of sysenter.
 *
 *	takes=1		replaces the SYSENTER entry of each CPU by a trampoline to the previous
 *			entry, and restores it when it is unloaded
 *	takes_cpu=N	the same on CPU N only
 *	moves_stack=1	sets another SYSENTER_ESP on each CPU, and restores it when it is unloaded
 *	writes_back=1	only remembers the entry, and restores it when it is unloaded
 *	probes=SYMBOL	puts a kprobe on SYMBOL; does not load if it cannot
 *	breaks_from=ADDRESS breaks_to=ADDRESS
 *			tries a hardware breakpoint at each address from the one up to the other;
 *			`broke' says at how many it could, `broke_at' at which first
 *	takes_call=1	amd64: replaces the target of the call in the kernel's entry, which is
 *			do_syscall_64() or another module, and restores it when it is unloaded
 *	guest_ran	amd64: writing says that a guest of KVM's has run on this CPU, as KVM does for
 *			VMSCAPE's barrier; reading says whether that still holds
 */
#include <linux/cpu.h>
#include <linux/hw_breakpoint.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/smp.h>
#include <linux/stop_machine.h>
#include <asm/msr.h>

static bool takes;
module_param(takes, bool, 0444);
static int takes_cpu = -1;
module_param(takes_cpu, int, 0444);
static bool moves_stack;
module_param(moves_stack, bool, 0444);
static bool writes_back;
module_param(writes_back, bool, 0444);
static char *probes;
module_param(probes, charp, 0444);
static unsigned long breaks_from, breaks_to, broke, broke_at;
module_param(breaks_from, ulong, 0444);
module_param(breaks_to, ulong, 0444);
module_param(broke, ulong, 0444);
module_param(broke_at, ulong, 0444);

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
	if (!writes_back)
		write_entry((unsigned long)rival_entry);
}

static void give_back(void *unused)
{
	write_entry(rival_was);
}

static void move_stack(void *distance)
{
	u32 low, high;

	rdmsr(MSR_IA32_SYSENTER_ESP, low, high);
	wrmsr(MSR_IA32_SYSENTER_ESP, low + (long)distance, high);
}

static void each(smp_call_func_t function)
{
	if (takes_cpu >= 0)
		smp_call_function_single(takes_cpu, function, NULL, 1);
	else if (takes || writes_back)
		on_each_cpu(function, NULL, 1);
}

static void nothing(struct perf_event *event, struct perf_sample_data *data, struct pt_regs *regs)
{
}

static void try_breakpoints(void)
{
	struct perf_event_attr attr;

	hw_breakpoint_init(&attr);
	attr.bp_len = sizeof(long);	/* the only length of one that stops before an instruction */
	attr.bp_type = HW_BREAKPOINT_X;
	for (attr.bp_addr = breaks_from; attr.bp_addr < breaks_to; attr.bp_addr++) {
		struct perf_event * __percpu *events = register_wide_hw_breakpoint(&attr, nothing, NULL);

		if (IS_ERR((void __force *)events))
			continue;
		unregister_wide_hw_breakpoint(events);
		if (!broke++)
			broke_at = attr.bp_addr;
	}
}

#ifdef CONFIG_X86_64
static unsigned long (*lookup)(const char *);

static int find_lookup(void)
{
	struct kprobe lookup_probe = { .symbol_name = "kallsyms_lookup_name" };

	if (register_kprobe(&lookup_probe))
		return -ENOENT;
	lookup = (void *)lookup_probe.addr;
	unregister_kprobe(&lookup_probe);
	return 0;
}

/* KVM alone may link to it. */
static bool *guest_ran_here(void)
{
	unsigned long at = lookup("x86_ibpb_exit_to_user");

	return at ? this_cpu_ptr((bool __percpu *)at) : NULL;
}

static int set_guest_ran(const char *value, const struct kernel_param *param)
{
	bool *ran;

	if (!lookup && find_lookup())
		return -ENOENT;
	preempt_disable();
	ran = guest_ran_here();
	if (ran)
		*ran = true;
	preempt_enable();
	return ran ? 0 : -ENOENT;
}

static int get_guest_ran(char *buffer, const struct kernel_param *param)
{
	bool *ran, held;

	if (!lookup && find_lookup())
		return -ENOENT;
	preempt_disable();
	ran = guest_ran_here();
	held = ran && *ran;
	preempt_enable();
	return sprintf(buffer, "%d\n", held);
}

static const struct kernel_param_ops guest_ran_ops = { .set = set_guest_ran, .get = get_guest_ran };
module_param_cb(guest_ran, &guest_ran_ops, NULL, 0644);

static bool takes_call;
module_param(takes_call, bool, 0444);

unsigned long rival_called;
void rival_call(void);
asm(".pushsection .text\n"
    ".globl rival_call\n"
    "rival_call:\n"
    "	jmp *rival_called(%rip)\n"
    ".popsection");

static unsigned char *call_at;

static int write_call(void *target)
{
	void *(*text_poke)(void *, const void *, size_t) = (void *)lookup("text_poke");
	s32 distance = (unsigned long)target - (unsigned long)call_at - 5;

	text_poke(call_at + 1, &distance, sizeof(distance));
	return 0;
}

static void point_call_at(unsigned long target)
{
	int (*stop)(cpu_stop_fn_t, void *, const struct cpumask *) = (void *)lookup("stop_machine_cpuslocked");
	struct mutex *text_mutex = (void *)lookup("text_mutex");

	cpus_read_lock();
	mutex_lock(text_mutex);
	stop(write_call, (void *)target, NULL);
	mutex_unlock(text_mutex);
	cpus_read_unlock();
}

static int take_call(void)
{
	unsigned long stock, ours;
	unsigned char *at;

	if (find_lookup())
		return -ENOENT;
	stock = lookup("do_syscall_64");
	ours = lookup("sysenter_all");
	for (at = (void *)lookup("entry_SYSCALL_64_after_hwframe"); at < (unsigned char *)lookup("syscall_return_via_sysret"); at++) {
		rival_called = (unsigned long)at + 5 + *(s32 *)(at + 1);
		if (*at == 0xe8 && (rival_called == stock || rival_called == ours)) {
			call_at = at;
			point_call_at((unsigned long)rival_call);
			return 0;
		}
	}
	return -ENOENT;
}
#else
#define takes_call	false
static unsigned long rival_called;
static int take_call(void) { return 0; }
static void point_call_at(unsigned long target) { }
#endif

static int __init rival_init(void)
{
	if (takes_call) {
		int error = take_call();

		if (error)
			return error;
	}
	if (probes) {
		int error;

		probe.symbol_name = probes;
		error = register_kprobe(&probe);
		if (error)
			return error;
	}
	try_breakpoints();
	if (moves_stack)
		on_each_cpu(move_stack, (void *)-64l, 1);
	each(take);
	return 0;
}

static void __exit rival_exit(void)
{
	if (takes_call)
		point_call_at(rival_called);
	each(give_back);
	if (moves_stack)
		on_each_cpu(move_stack, (void *)64l, 1);
	if (probes)
		unregister_kprobe(&probe);
}

module_init(rival_init);
module_exit(rival_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Gets in the way of sysenter, for its tests");
