// SPDX-License-Identifier: GPL-2.0-or-later
/* The i386 part: the vDSO's landing pad, the scope, and which kernels are refused. */
#include "sysenter.h"
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/text-patching.h>

unsigned long sysenter_entry_point, sysenter_landing_pad;

u8 sysenter_kinds[SYSENTER_NR] __ro_after_init;			/* by number: CALL_* */
unsigned long sysenter_bodies[SYSENTER_NR] __ro_after_init;	/* by number: the body */

/*
 * What runs the body of a call: the kernel's own ia32_sys_call(), a tree of comparisons and
 * direct calls (since 6.9 and the stable kernels of that time), or else sysenter_dispatch,
 * an indirect jump. Neither checks that the number exists; sysenter_kinds[] does. HAZARD: on
 * a processor without LFENCE only sysenter_dispatch stops speculation with the caller's
 * segments (entry_i386.S).
 */
unsigned long kernel_dispatch;
asmlinkage void sysenter_dispatch(void);

/* The address of the call of do_SYSENTER_32() in entry_SYSENTER_32. */
unsigned long kernel_call_of_do_SYSENTER_32;

/* The size of this process's vDSO, 0 if there is none. */
static unsigned long __init vdso_size(unsigned long vdso)
{
	struct vm_area_struct *vma;
	unsigned long size = 0;

	mmap_read_lock(current->mm);
	vma = vdso ? find_vma(current->mm, vdso) : NULL;
	if (vma && vma->vm_start == vdso)
		size = vma->vm_end - vdso;
	mmap_read_unlock(current->mm);
	return size;
}

/*
 * The landing pad is where the vDSO continues after SYSENTER. To find its offset, look for
 * the only `int $0x80` in the vDSO that three pops and a return follow
 * (arch/x86/entry/vdso/vdso32/system_call.S). Every process maps the same image. The pad
 * may be in any page of it: on a 7.3 it was in the second.
 */
static int __init find_landing_pad(void)
{
	static const u8 pad[] __initconst = { 0xcd, 0x80, 0x5d, 0x5a, 0x59, 0xc3 };
	unsigned long vdso = (unsigned long)current->mm->context.vdso, size = vdso_size(vdso);
	static u8 code[4 * PAGE_SIZE] __initdata;
	unsigned int i, found = 0;

	if (!size || copy_from_user(code, (void __user *)vdso, min(size, sizeof(code)))) {
		pr_err("refused: no vDSO in this process; boot without vdso32=0\n");
		return -ENXIO;
	}
	for (i = 0; i + sizeof(pad) <= sizeof(code); i++) {	/* zeroes behind the vDSO's end */
		if (!memcmp(code + i, pad, sizeof(pad))) {
			sysenter_landing_pad = i + 2;
			found++;
		}
	}
	if (found != 1) {
		pr_err("refused: the vDSO's SYSENTER landing pad is not of the kind known here\n");
		return -ENXIO;
	}
	return 0;
}

/* Can the entry work on this processor and this kernel at all? */
static int __init check_processor(void)
{
#if defined(CONFIG_TRACE_IRQFLAGS) || defined(CONFIG_DEBUG_ENTRY) || defined(CONFIG_DEBUG_RSEQ)
	pr_err("refused: the kernel was built to check its own entry code (TRACE_IRQFLAGS, DEBUG_ENTRY or DEBUG_RSEQ: a kernel without them is needed)\n");
	return -EOPNOTSUPP;
#endif
	if (sysenter_looks_for_sequences()) {
		pr_err("refused: the kernel looks at each return for calls made in a restartable sequence (rseq_debug: turn it off)\n");
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
	sysenter_kinds[nr] = CALL_SLOW;
}

void __init sysenter_arch_fast_call(unsigned int nr, unsigned int arguments, unsigned long body)
{
	sysenter_bodies[nr] = body;
	sysenter_kinds[nr] = arguments <= 5 ? CALL_PLAIN : CALL_SIX;
}

/* 0 if there is none, or more than one: this kernel's entry code is of another kind. */
static unsigned long __init call_of_do_SYSENTER_32(void)
{
	unsigned long at, found = 0, end = sysenter_lookup("entry_INT80_32");

	for (at = kernel_entry_SYSENTER_32; at + 5 <= end; at++) {
		if (*(u8 *)at != CALL_INSN_OPCODE || at + 5 + *(s32 *)(at + 1) != kernel_do_SYSENTER_32)
			continue;
		if (found)
			return 0;
		found = at;
	}
	return found;
}

int __init sysenter_arch_find_kernel(void)
{
	kernel_dispatch = boot_cpu_has(X86_FEATURE_LFENCE_RDTSC) ? sysenter_lookup("ia32_sys_call") : 0;
	if (!kernel_dispatch)
		kernel_dispatch = (unsigned long)sysenter_dispatch;
	kernel_call_of_do_SYSENTER_32 = call_of_do_SYSENTER_32();
	if (!kernel_call_of_do_SYSENTER_32) {
		pr_err("refused: entry_SYSENTER_32 does not call do_SYSENTER_32 once; this kernel's entry code is not of the kind known here\n");
		return -ENOENT;
	}
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

/* Write LOOK_AT_SCOPE (entry_i386.S) for this scope. Its jump goes to the stock path. */
static int __init write_scope(void)
{
	extern const unsigned long sysenter_scope_sites[], sysenter_scope_sites_end[];
	static const struct {
		u8 opcode;
		u32 constant;
		u8 jump[2];
	} __packed all __initconst = { 0x3d, SYSENTER_NR, { 0x0f, 0x83 } },	/* cmpl, jae */
	  both __initconst = { 0xa9, ~(SYSENTER_MARK_I386 | (SYSENTER_NR - 1)), { 0x0f, 0x85 } };	/* testl, jnz */
	const unsigned long *site;
	int error = 0;

	if (!sysenter_scope_all)
		return 0;
	for (site = sysenter_scope_sites; !error && site < sysenter_scope_sites_end; site++)
		error = sysenter_poke(*site, sysenter_scope_marked ? &both : &all, sizeof(all));
	return error;
}

int __init sysenter_arch_prepare(void)
{
	int error = write_scope();

	if (error)
		return error;
	return sysenter_by_syscall ? sysenter_syscall_prepare() : sysenter_trampoline_prepare();
}

void sysenter_arch_undo(void)
{
	if (sysenter_by_syscall)
		sysenter_syscall_undo();
	else
		sysenter_trampoline_undo();
}
