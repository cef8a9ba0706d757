/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What kernels name or do in another way, in one place. Included from C and from
 * assembly.
 *
 * Which way a kernel has it is told by a word in one of its headers (HAVE_*, Kbuild) or
 * by its own macro, never by its version: distributions bring changes back to older
 * releases.
 */
#ifndef SYSENTER_COMPAT_H
#define SYSENTER_COMPAT_H

#ifdef __ASSEMBLY__
/*
 * For the stack unwinder and objtool: this is where a task's stack ends. (The macro's
 * name until 6.3 was another.)
 */
#ifdef HAVE_END_OF_STACK
#define UNWIND_HINT_UNKNOWN_CALLER	UNWIND_HINT_END_OF_STACK
#else
#define UNWIND_HINT_UNKNOWN_CALLER	UNWIND_HINT_EMPTY
#endif

/* A kernel without the mitigation: a feature that sysenter_arch_check() refuses. */
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

#else	/* C */
#include <linux/mm.h>
#include <linux/syscore_ops.h>

/* amd64: what does a call's exit work (see .Lexit_work in entry_amd64.S). */
#ifdef HAVE_TRACE_SYSCALL_EXIT
#define EXIT_SYMBOLS(X)	X(irqentry_exit) X(trace_syscall_exit)
#else
#define EXIT_SYMBOLS(X)	X(syscall_exit_to_user_mode)
#endif

/* A mapping that nobody can make writable or larger: since 6.3 its flags have a lock of their own. */
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

/* Since 6.19 the operations of a suspend are const, with data beside them. */
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
