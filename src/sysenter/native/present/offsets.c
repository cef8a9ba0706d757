// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Constants for the entry code, from the headers of the kernel that the module
 * is built for. Compiled to assembly only; Kbuild makes offsets.h of it.
 */
#include <linux/kbuild.h>
#include <linux/sched.h>
#include <linux/mm_types.h>
#include <linux/entry-common.h>
#include <asm/cpu_entry_area.h>
#include <asm/processor.h>
#include <asm/ptrace.h>
#include <asm/segment.h>
#include <asm/thread_info.h>
#include <uapi/asm/processor-flags.h>
#include "frame.h"

int main(void)
{
	OFFSET(TASK_mm, task_struct, mm);
	OFFSET(TASK_ti_flags, task_struct, thread_info.flags);
	OFFSET(TASK_syscall_work, task_struct, thread_info.syscall_work);
	OFFSET(MM_vdso, mm_struct, context.vdso);

	/*
	 * Whatever the kernel's own exit looks at. The FPU, I/O bitmap and
	 * return-notifier bits are in arch_exit_to_user_mode_prepare().
	 */
	DEFINE(EXIT_WORK, (int)(EXIT_TO_USER_MODE_WORK | _TIF_NEED_FPU_LOAD |
				_TIF_IO_BITMAP | _TIF_USER_RETURN_NOTIFY));
	DEFINE(EXIT_SYSCALL_WORK, (int)SYSCALL_WORK_EXIT);

	/*
	 * Flags a caller may hold that the fast path would take into the
	 * kernel: SYSENTER clears IF, RF and VM and nothing else.
	 */
	DEFINE(ODD_FLAGS, X86_EFLAGS_TF | X86_EFLAGS_NT | X86_EFLAGS_AC |
			  X86_EFLAGS_DF | X86_EFLAGS_IOPL);

#ifdef CONFIG_X86_32
	OFFSET(PT_EBX, pt_regs, bx);
	OFFSET(PT_ECX, pt_regs, cx);
	OFFSET(PT_EDX, pt_regs, dx);
	OFFSET(PT_ESI, pt_regs, si);
	OFFSET(PT_EDI, pt_regs, di);
	OFFSET(PT_EBP, pt_regs, bp);
	OFFSET(PT_EAX, pt_regs, ax);
	OFFSET(PT_DS, pt_regs, ds);
	OFFSET(PT_ES, pt_regs, es);
	OFFSET(PT_FS, pt_regs, fs);
	OFFSET(PT_GS, pt_regs, gs);
	OFFSET(PT_ORIG_EAX, pt_regs, orig_ax);
	OFFSET(PT_EIP, pt_regs, ip);
	OFFSET(PT_CS, pt_regs, cs);
	OFFSET(PT_EFLAGS, pt_regs, flags);
	OFFSET(PT_OLDESP, pt_regs, sp);
	OFFSET(PT_OLDSS, pt_regs, ss);
	DEFINE(PT_SIZE, sizeof(struct pt_regs));
	DEFINE(LAST_FRAME, 2 * sizeof(long));
	DEFINE(LAST_FETCH, TASK_SIZE_MAX - sizeof(long));
	/* From MSR_IA32_SYSENTER_ESP, the end of the entry stack, to sp1. */
	DEFINE(ENTRY_STACK_TO_SP1,
	       offsetof(struct cpu_entry_area, tss.x86_tss.sp1) -
	       offsetofend(struct cpu_entry_area, entry_stack_page.stack));
#endif
	DEFINE(FRAME_SS, FRAME_MAGIC << 16 | __USER_DS);
	return 0;
}
