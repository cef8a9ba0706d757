/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Definitions that privileged.c and privileged.S share. */
#ifndef SYSENTER_PRIVILEGED_H
#define SYSENTER_PRIVILEGED_H

/* in SYSENTER's order (SDM Vol. 2B, SYSENTER, SYSEXIT) */
#define KERNEL_CS	0x10
#define KERNEL_DS	0x18
#define USER_CS		0x23
#define USER_DS		0x2b
#define TSS		0x30
#define OTHER_DS	0x3b

#define END_OF_CASE	0x30
#define INTERRUPT	0x40
#define VECTORS		0x41
#define STACK_BYTES	8192
#define EFLAGS_VM	0x20000

/* struct state */
#define S_EAX		0
#define S_ECX		4
#define S_EDX		8
#define S_EBX		12
#define S_ESP		16
#define S_EBP		20
#define S_ESI		24
#define S_EDI		28
#define S_EIP		32
#define S_EFLAGS	36
#define S_CS		40
#define S_SS		44
#define S_DS		48
#define S_ES		52
#define S_FS		56
#define S_GS		60

#endif
