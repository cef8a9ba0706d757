// SPDX-License-Identifier: GPL-2.0-or-later
/* What is particular to i386: the vDSO's landing pad, and who is refused. */
#include "sysenter.h"
#include <linux/mm_types.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>

unsigned long sysenter_entry_point, sysenter_landing_pad;

/* Entries for calls that are no plain body: entry_i386.S */
asmlinkage void sysenter_call_slow(void);
asmlinkage void sysenter_call_args5(void);
asmlinkage void sysenter_call_args6(void);

unsigned long sysenter_calls[SYSENTER_NR] __ro_after_init;	/* what the entry calls */
unsigned long sysenter_bodies[SYSENTER_NR] __ro_after_init;	/* the kernel's functions */

/*
 * The landing pad is where the vDSO goes on after SYSENTER; its offset is that
 * of the one `int $0x80` in the vDSO that is followed by three pops and a
 * return (arch/x86/entry/vdso/vdso32/system_call.S). The same image is mapped
 * into every process.
 */
static int __init find_landing_pad(void)
{
	static const u8 pad[] __initconst = { 0xcd, 0x80, 0x5d, 0x5a, 0x59, 0xc3 };
	unsigned long vdso = (unsigned long)current->mm->context.vdso;
	static u8 code[PAGE_SIZE] __initdata;
	unsigned int i;

	if (!vdso || copy_from_user(code, (void __user *)vdso, sizeof(code))) {
		pr_err("refused: no vDSO in this process; boot without vdso32=0\n");
		return -ENXIO;
	}
	for (i = 0; i + sizeof(pad) <= sizeof(code); i++) {
		if (memcmp(code + i, pad, sizeof(pad)))
			continue;
		if (sysenter_landing_pad)
			break;
		sysenter_landing_pad = i + 2;
	}
	if (!sysenter_landing_pad || i + sizeof(pad) <= sizeof(code)) {
		pr_err("refused: the vDSO's SYSENTER landing pad is not of the kind known here\n");
		return -ENXIO;
	}
	return 0;
}

/* Can this processor, as this kernel drives it, be entered here at all? */
static int __init check_processor(void)
{
	if (sysenter_scope_all) {
		pr_err("refused: scope=all is for amd64 until now; scope=marked works here\n");
		return -EOPNOTSUPP;
	}
	if (boot_cpu_has(X86_FEATURE_XENPV)) {
		pr_err("refused: under Xen PV system calls enter the hypervisor\n");
		return -ENODEV;
	}
#ifdef CONFIG_GCC_PLUGIN_STACKLEAK
	if (sysenter_lacks("erases its stack on each exit (STACKLEAK: a kernel without it is needed)"))
		return -EOPNOTSUPP;
#endif
	return sysenter_check_buffers();
}

void __init sysenter_arch_slow_call(unsigned int nr)
{
	sysenter_calls[nr] = (unsigned long)sysenter_call_slow;
}

void __init sysenter_arch_fast_call(unsigned int nr, unsigned int arguments, unsigned long body)
{
	sysenter_bodies[nr] = body;
	sysenter_calls[nr] = arguments <= 3 ? body :
		(unsigned long)(arguments <= 5 ? sysenter_call_args5 : sysenter_call_args6);
}

int sysenter_arch_find_kernel(void)
{
	return 0;
}

int __init sysenter_arch_check(void)
{
	sysenter_entry_point = (unsigned long)sysenter_entry;
	return check_processor() ?: sysenter_choose() ?: sysenter_trampoline_choose() ?: find_landing_pad();
}

bool sysenter_arch_check_cpu(void)
{
	return true;
}

int __init sysenter_arch_prepare(void)
{
	return sysenter_by_syscall ? sysenter_syscall_prepare() : sysenter_trampoline_prepare();
}

void sysenter_arch_undo(void)
{
	if (sysenter_by_syscall)
		sysenter_syscall_undo();
	else
		sysenter_trampoline_undo();
}
