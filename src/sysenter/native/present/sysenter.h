/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Declarations that the module's C files share. */
#ifndef SYSENTER_H
#define SYSENTER_H

#define pr_fmt(fmt) "sysenter: " fmt

#include <linux/kernel.h>
#include <linux/linkage.h>
#include <linux/percpu.h>
#include "abi.h"
#include "frame.h"

/* guard.c: 0 if this is the kernel that the module was built for. */
int sysenter_guard(void);

/* kernel.c: addresses of kernel functions that are not exported. */
int sysenter_find_kernel(void);		/* fills kernel_*; logs the name of a missing one */
extern unsigned long kernel_find_module, kernel_put_task_stack, kernel_wake_up_state;
extern unsigned long kernel_flush_tlb_all;
#ifdef CONFIG_X86_64
extern unsigned long kernel_entry_SYSENTER_compat, kernel_cpu_tss_rw, kernel_init_top_pgt;
extern unsigned long kernel_entry_SYSCALL_64_after_hwframe, kernel_return_to_usermode;
#define kernel_stock_entry	kernel_entry_SYSENTER_compat
#else
extern unsigned long kernel_entry_SYSENTER_32, kernel_do_SYSENTER_32, kernel_get_cpu_entry_area;
extern unsigned long kernel_asm_exc_debug, kernel_asm_exc_nmi, kernel_asm_exc_machine_check;
extern unsigned long kernel_switch_mm_irqs_off;
#define kernel_stock_entry	kernel_entry_SYSENTER_32
#endif
unsigned long sysenter_lookup(const char *symbol);	/* 0 if there is none */
int sysenter_write_patch_sites(void);		/* writes these addresses into the entry code */

/*
 * main.c: report that the kernel applies a mitigation that this entry lacks. `mitigation`
 * continues a sentence that begins with "the kernel". Logs a refusal and returns
 * -EOPNOTSUPP; with unsafe=1 logs a warning, taints the kernel and returns 0.
 */
int sysenter_lacks(const char *mitigation);
int sysenter_check_buffers(void);	/* refuses a kernel that executes VERW in another way */
bool sysenter_looks_for_sequences(void);	/* rseq_debug, which this entry does not do */

/* main.c: whose calls take the fast path, the parameter scope */
extern bool sysenter_scope_marked, sysenter_scope_all;

/*
 * scope=all: begin serving unmarked calls, when everything else is in place; end it, so that
 * no new call comes here. Both do nothing if sysenter_scope_all is false.
 */
#ifdef CONFIG_X86_64	/* scope_amd64.c: one call in the kernel's entry */
#define sysenter_by_registers	sysenter_scope_marked
int sysenter_all_find_kernel(void);
extern u8 sysenter_all_slow[SYSENTER_NR];	/* by number: 1 if the call is not served */
int sysenter_all_begin(void);
void sysenter_all_end(void);
void sysenter_all_leave_exit_work(void);	/* takes tasks in exit work out of our text */
#else			/* the entry itself tests the scope */
#define sysenter_by_registers	true
static inline int sysenter_all_begin(void) { return 0; }
static inline void sysenter_all_end(void) { }
static inline void sysenter_all_leave_exit_work(void) { }
#endif

/* arch_*.c */
int sysenter_arch_find_kernel(void);	/* the symbols that have several names */
int sysenter_arch_check(void);		/* 0 if the entry works on this processor and this kernel */
bool sysenter_arch_check_cpu(void);	/* the same for the CPU that this runs on */
int sysenter_arch_prepare(void);	/* before the first CPU uses the entry */
void sysenter_arch_undo(void);		/* after the last CPU has used it */
void sysenter_arch_slow_call(unsigned int nr);	/* these two fill the entry's tables */
void sysenter_arch_fast_call(unsigned int nr, unsigned int arguments, unsigned long body);
extern unsigned long sysenter_entry_point;	/* the value for SYSENTER_EIP */

#ifdef CONFIG_X86_32
/*
 * syscall_i386.c: entry by AMD's SYSCALL. Its "entry register" reads as the kernel's entry
 * while EFER.SCE is off, and as ours while STAR has this CPU's stub.
 */
extern bool sysenter_by_syscall;
int sysenter_choose(void);		/* by the parameter entry= and by what the processor has */
int sysenter_syscall_prepare(void);	/* writes the stubs and the exit, opens the task gates */
void sysenter_syscall_undo(void);
unsigned long sysenter_syscall_read(void);
void sysenter_syscall_write(unsigned long entry);

/* syscall_i386.S */
extern const char sysenter_syscall_stubs[], sysenter_syscall_stubs_end[], sysenter_syscall_odd_flags[];
extern const char sysenter_leave_syscall[], sysenter_leave_syscall_sysret[], sysenter_leave_syscall_end[];
extern const unsigned long sysenter_leave[4];	/* start, end; offset of the load of fs, twice */

/* taskgate_i386.c: #DB, NMI and #MC while SYSCALL is on */
int sysenter_gates_open(void);
void sysenter_gates_close(void);
void sysenter_gates_write(bool ours);	/* writes our gates or the kernel's */
#else
#define sysenter_by_syscall	false
static inline unsigned long sysenter_syscall_read(void) { return 0; }
static inline void sysenter_syscall_write(unsigned long entry) { }
static inline void sysenter_gates_write(bool ours) { }
#endif
/*
 * pti_i386.c: with page-table isolation, the part of the entry that runs while CR3 is the
 * user's, at an address of its own.
 */
#ifdef SYSENTER_TRAMPOLINE
int sysenter_trampoline_choose(void);
int sysenter_trampoline_prepare(void);
void sysenter_trampoline_undo(void);
unsigned long sysenter_runs_at(unsigned long text);	/* where our text is executed */
bool sysenter_in_trampoline(unsigned long ip);
#else	/* this kernel cannot isolate page tables */
static inline int sysenter_trampoline_choose(void) { return 0; }
static inline int sysenter_trampoline_prepare(void) { return 0; }
static inline void sysenter_trampoline_undo(void) { }
static inline unsigned long sysenter_runs_at(unsigned long text) { return text; }
static inline bool sysenter_in_trampoline(unsigned long ip) { return false; }
#endif
int sysenter_poke(unsigned long at, const void *bytes, size_t size);	/* kernel.c */

/*
 * Call one of the kernel_*. HAZARD: a kernel with IBT removes the ENDBR of each function whose
 * address it never takes, and an indirect CALL or JMP to that function is #CP. So the amd64
 * version uses RET, which IBT does not track (Intel SDM Vol. 1, Indirect Branch Tracking).
 */
#ifdef CONFIG_X86_64
asmlinkage unsigned long sysenter_call_kernel(unsigned long function, unsigned long a, unsigned long b,
					      unsigned long c);
#define kernel_call sysenter_call_kernel
#else	/* no i386 kernel has IBT */
static inline unsigned long kernel_call(unsigned long function, unsigned long a, unsigned long b, unsigned long c)
{
	return ((unsigned long (*)(unsigned long, unsigned long, unsigned long))function)(a, b, c);
}
#endif

/* trial.c: does this processor really execute the instruction? */
bool sysenter_executes(void);
bool sysenter_executes_syscall(void);	/* SYSCALL; EFER.SCE must be on */

/* calls.c: fills the tables from calls.h, which the build makes. */
int sysenter_fill_calls(void);
extern unsigned int sysenter_fast_calls;	/* how many calls are in the fast table */

/* device.c: /dev/sysenter and the stub page behind it. */
int sysenter_device_register(void);
void sysenter_device_unregister(void);

/* vms.c: virtual machines of KVM's */
int sysenter_check_vms(void);		/* 0 if there is none */
bool sysenter_vms_exist(void);
void sysenter_wait_for_vms(void);	/* returns when there are none */

/* unload.c: returns when no task is inside a fast call. */
void sysenter_wait_until_left(void);

/*
 * Called before each registration and allocation that loading makes. Returns 0. In a module
 * that is built for tests with SYSENTER_FAULT_INJECTION it returns -ENOMEM at one of these
 * calls: the parameter fail_at gives its number (main.c).
 */
#ifdef SYSENTER_FAULT_INJECTION
int sysenter_fault(void);
#else
static inline int sysenter_fault(void) { return 0; }
#endif

/* entry_*.S */
asmlinkage void sysenter_entry(void);
extern const char sysenter_entry_end[];
extern unsigned long sysenter_landing_pad;	/* i386: its offset in the vDSO */
DECLARE_PER_CPU(unsigned long, sysenter_count);	/* marked fast calls */
DECLARE_PER_CPU(unsigned long, sysenter_count_all);	/* unmarked ones (scope=all) */
DECLARE_PER_CPU(unsigned long, sysenter_kstack_offset);

#endif
