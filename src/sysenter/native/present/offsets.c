// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Constants for the entry code, from the headers of the kernel that the module is built
 * for. This file is only compiled to assembly; Kbuild makes offsets.h from that.
 */
#undef MODULE	/* it hides struct tlb_state; no code of this file is linked */
#define COMPILE_OFFSETS	/* as in the kernel's own file: its constants have the same names */
#include <linux/kbuild.h>
#include <linux/sched.h>
#include <linux/mm_types.h>
#include <linux/entry-common.h>
#include <asm/cpu_entry_area.h>
#include <asm/processor.h>
#include <asm/ptrace.h>
#include <asm/segment.h>
#include <asm/syscall.h>
#include <asm/thread_info.h>
#include <asm/tlbflush.h>
#include <uapi/asm/processor-flags.h>
#include "frame.h"
#include <asm/unistd.h>
#ifdef CONFIG_X86_32
#include "taskgate.h"
#endif

int main(void)
{
	OFFSET(TASK_ti_flags, task_struct, thread_info.flags);
	OFFSET(TASK_syscall_work, task_struct, thread_info.syscall_work);

	/*
	 * All that the kernel's own exit tests. arch_exit_to_user_mode_prepare() tests the
	 * bits of the FPU, of the I/O bitmap and of return notifiers.
	 */
	DEFINE(EXIT_WORK, (int)(EXIT_TO_USER_MODE_WORK | _TIF_NEED_FPU_LOAD |
				_TIF_IO_BITMAP | _TIF_USER_RETURN_NOTIFY));
	DEFINE(EXIT_SYSCALL_WORK, (int)SYSCALL_WORK_EXIT);
	DEFINE(SYSCALL_TRACEPOINT, (int)SYSCALL_WORK_SYSCALL_TRACEPOINT);
	OFFSET(TSS_SP0, tss_struct, x86_tss.sp0);

#ifdef CONFIG_X86_32
	OFFSET(TASK_mm, task_struct, mm);
	OFFSET(MM_vdso, mm_struct, context.vdso);

	/*
	 * Flags that the caller may have set and that must not stay set in the kernel:
	 * SYSENTER clears IF, RF and VM only.
	 */
	DEFINE(ODD_FLAGS, X86_EFLAGS_TF | X86_EFLAGS_NT | X86_EFLAGS_AC |
			  X86_EFLAGS_DF | X86_EFLAGS_IOPL);

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
	/* The distance from the end of the entry stack (MSR_IA32_SYSENTER_ESP) to sp1. */
	DEFINE(ENTRY_STACK_TO_SP1,
	       offsetof(struct cpu_entry_area, tss.x86_tss.sp1) -
	       offsetofend(struct cpu_entry_area, entry_stack_page.stack));

	OFFSET(GATE_swallow, sysenter_task, swallow);
	DEFINE(MM_SWITCHING, (unsigned long)LOADED_MM_SWITCHING);
	/* fields of a TSS descriptor (SDM Vol. 3, "TSS Descriptor") */
	DEFINE(TSS_TYPE, 5);
	DEFINE(TSS_BUSY, 2);
#endif
#ifdef CONFIG_X86_64
	/*
	 * A fast call returns with USER_FLAGS, so it must begin with these flags too. Only
	 * the arithmetic ones may differ. SYSENTER has cleared IF already.
	 */
	DEFINE(USER_FLAGS, X86_EFLAGS_IF | X86_EFLAGS_FIXED);
	DEFINE(ODD_FLAGS, 0x3fffff &
	       ~(X86_EFLAGS_CF | X86_EFLAGS_FIXED | X86_EFLAGS_PF | X86_EFLAGS_AF |
		 X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_OF));
#if defined(HAVE_UNWIND_MASK) && defined(CONFIG_UNWIND_USER)
	OFFSET(TASK_unwind_mask, task_struct, unwind_info.unwind_mask);
#endif
	DEFINE(NR_SYSCALLS, NR_syscalls);
	/*
	 * Since 6.7 do_syscall_64() returns whether SYSRET may be used. Before, the kernel's
	 * exit decides.
	 */
	DEFINE(SYSRET_VERDICT, !__builtin_types_compatible_p(typeof(do_syscall_64(NULL, 0)), void));
	OFFSET(TLBSTATE_user_pcid_flush_mask, tlb_state, user_pcid_flush_mask);
#ifdef HAVE_PCPU_HOT
	OFFSET(PCPU_HOT_current_task, pcpu_hot, current_task);
	OFFSET(PCPU_HOT_top_of_stack, pcpu_hot, top_of_stack);
#endif
	OFFSET(PT_R15, pt_regs, r15);
	OFFSET(PT_R14, pt_regs, r14);
	OFFSET(PT_R13, pt_regs, r13);
	OFFSET(PT_R12, pt_regs, r12);
	OFFSET(PT_RBP, pt_regs, bp);
	OFFSET(PT_RBX, pt_regs, bx);
	OFFSET(PT_R11, pt_regs, r11);
	OFFSET(PT_R10, pt_regs, r10);
	OFFSET(PT_R9, pt_regs, r9);
	OFFSET(PT_R8, pt_regs, r8);
	OFFSET(PT_RAX, pt_regs, ax);
	OFFSET(PT_RCX, pt_regs, cx);
	OFFSET(PT_RDX, pt_regs, dx);
	OFFSET(PT_RSI, pt_regs, si);
	OFFSET(PT_RDI, pt_regs, di);
	OFFSET(PT_ORIG_RAX, pt_regs, orig_ax);
	OFFSET(PT_RIP, pt_regs, ip);
	OFFSET(PT_CS, pt_regs, cs);
	OFFSET(PT_EFLAGS, pt_regs, flags);
	OFFSET(PT_RSP, pt_regs, sp);
	OFFSET(PT_SS, pt_regs, ss);
	DEFINE(PT_SIZE, sizeof(struct pt_regs));
#endif
	DEFINE(FRAME_SS, FRAME_MAGIC << 16 | __USER_DS);
	return 0;
}
