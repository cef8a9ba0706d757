/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The differences between kernels, in one place: other names, other interfaces. C and
 * assembly include this file.
 *
 * What a kernel has is found out from a word in one of its headers (HAVE_*, see Kbuild)
 * or from a macro of its own, never from its version: distributions backport changes.
 */
#ifndef SYSENTER_COMPAT_H
#define SYSENTER_COMPAT_H

/*
 * A kernel without the mitigation: use a feature bit that is never set here, because
 * sysenter_arch_check() refuses processors with it.
 */
#ifdef X86_FEATURE_CLEAR_BHB_LOOP
#define FEATURE_CLEAR_BHB_LOOP		X86_FEATURE_CLEAR_BHB_LOOP
#else
#define FEATURE_CLEAR_BHB_LOOP		X86_FEATURE_XENPV
#endif
#ifdef X86_FEATURE_IBPB_EXIT_TO_USER
#define FEATURE_IBPB_EXIT_TO_USER	X86_FEATURE_IBPB_EXIT_TO_USER
#else
#define FEATURE_IBPB_EXIT_TO_USER	X86_FEATURE_XENPV
#endif
#ifndef X86_BUG_DIV0
#define X86_BUG_DIV0			X86_FEATURE_XENPV
#endif

#ifdef __ASSEMBLY__
/*
 * A hint for the stack unwinder and objtool: the task's stack ends here. Until 6.3 this
 * macro had another name.
 */
#ifdef HAVE_END_OF_STACK
#define UNWIND_HINT_UNKNOWN_CALLER	UNWIND_HINT_END_OF_STACK
#else
#define UNWIND_HINT_UNKNOWN_CALLER	UNWIND_HINT_EMPTY
#endif

#else	/* C */
#include <linux/mm.h>
#include <linux/syscore_ops.h>
#include <asm/msr.h>

/* Since 6.16 the functions for an MSR of 64 bits have other names. */
#ifndef rdmsrq
#define rdmsrq		rdmsrl
#define wrmsrq		wrmsrl
#define rdmsrq_safe	rdmsrl_safe
#define wrmsrq_safe	wrmsrl_safe
#endif

/* The kernel functions that do a call's exit work (see .Lexit_work in entry_amd64.S). */
#ifdef HAVE_TRACE_SYSCALL_EXIT
#define EXIT_SYMBOLS(X)	X(irqentry_exit) X(trace_syscall_exit)
#else
#define EXIT_SYMBOLS(X)	X(syscall_exit_to_user_mode)
#endif

/* Nobody can make the mapping writable, or extend it. Since 6.3 its flags have a lock. */
static inline void sysenter_seal(struct vm_area_struct *vma)
{
#ifdef HAVE_VM_FLAGS_CLEAR
	vm_flags_clear(vma, VM_MAYWRITE);
	vm_flags_set(vma, VM_DONTEXPAND);
#else
	vma->vm_flags &= ~VM_MAYWRITE;
	vma->vm_flags |= VM_DONTEXPAND;
#endif
}

/* Since 6.19 the callbacks of a suspend are const, and take an argument. */
#ifdef HAVE_SYSCORE
#define SYSCORE_DATA	void *data
#define DEFINE_SYSCORE(name, suspend_it, resume_it)		\
	static const struct syscore_ops name##_ops = {		\
		.suspend = suspend_it, .resume = resume_it,	\
	};							\
	static struct syscore name = { .ops = &name##_ops }
#else
#define SYSCORE_DATA	void
#define DEFINE_SYSCORE(name, suspend_it, resume_it)		\
	static struct syscore_ops name = {			\
		.suspend = suspend_it, .resume = resume_it,	\
	}
#define register_syscore	register_syscore_ops
#define unregister_syscore	unregister_syscore_ops
#endif

#endif	/* C */
#endif
