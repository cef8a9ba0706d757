/* SPDX-License-Identifier: GPL-2.0-or-later */
/* As native/legacy/offsets.c gave for Linux 2.2.26, SMP, gcc 2.95. */
#define PT_EBX 0
#define PT_ESI 12
#define PT_EDI 16
#define PT_EAX 24
#define PT_DS 28
#define PT_ES 32
#define PT_EIP 40
#define PT_EFLAGS 48
#define PT_OLDESP 52
#define PT_SIZE 60
#define TASK_NEED_RESCHED 20
#define TASK_SIGPENDING 8
#define TASK_TRACE 24
#define TRACE_IS_PTRACE 1
#define TASK_TSS_ESP0 740
#define TASK_CPU 44
#define THREAD_BYTES 8192
#define USER_LIMIT -1073741824
#define KERNEL_CS_SEL 16
#define USER_CS_SEL 35
#define USER_DS_SEL 43
#define NR_CALLS 256
#define MINUS_EFAULT -14
