/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the processor does in user mode, where the checker has a model. Two programs read this:
 * guest/processor.c runs each line on the machine, tests/processor_cases.py on the model. Both
 * must come to the same result.
 *
 * CASE(name, code, eax, ecx, edx, eflags,  vector, eax, ecx, edx, mask, eflags)
 *
 * code: instructions in hex, run at CPL 3 with a stack of its own. Then come the values before.
 * Then the result: the vector of the exception or -1; registers; the bits of EFLAGS to compare.
 * After an exception only the vector is compared. The selectors have the same meaning on i386 and
 * on amd64 kernels.
 */
#define NONE	-1
#define UD	6
#define TS	10	/* under a 64-bit kernel: GP (SDM Vol. 2A, IRET) */
#define GP	13
#define ARITH	0x8d5

/* EFLAGS: what POPF lets through at CPL 3, what PUSHF shows */
CASE("popf: arithmetic flags",	"68d70a0000 9d",	0, 0, 0, 0x2,	NONE, 0, 0, 0, ARITH, 0x8d5 & 0xad7)
CASE("popf: none of IF, IOPL",	"6802300000 9d 9c 58 2500320000", 0, 0, 0, 0x2,	NONE, 0x200, 0, 0, 0, 0)
CASE("popf: IF stays on",	"6802000000 9d 9c 58 2500020000", 0, 0, 0, 0x2,	NONE, 0x200, 0, 0, 0, 0)
CASE("popf: NT",		"6802420000 9d 9c 58 2500400000 6802020000 9d", 0, 0, 0, 0x2, NONE, 0x4000, 0, 0, 0, 0)
CASE("popf: AC",		"6802020400 9d 9c 58 2500000400 6802020000 9d", 0, 0, 0, 0x2, NONE, 0x40000, 0, 0, 0, 0)
CASE("popf: ID",		"6802022000 9d 9c 58 2500002000", 0, 0, 0, 0x2,	NONE, 0x200000, 0, 0, 0, 0)
CASE("popf: DF",		"6802060000 9d 9c 58 2500040000 fc", 0, 0, 0, 0x2, NONE, 0x400, 0, 0, 0, 0)
CASE("popf: bit 1 is always on", "6800000000 9d 9c 58 83e002", 0, 0, 0, 0x2,	NONE, 2, 0, 0, 0, 0)
CASE("popf: VM is not for it",	"6802020200 9d 9c 58 2500000200", 0, 0, 0, 0x2,	NONE, 0, 0, 0, 0, 0)

/* what user mode may not */
CASE("cli at CPL 3",		"fa",		0, 0, 0, 0x2,	GP, 0, 0, 0, 0, 0)
CASE("sti at CPL 3",		"fb",		0, 0, 0, 0x2,	GP, 0, 0, 0, 0, 0)
CASE("sysexit at CPL 3",	"0f35",		0, 0, 0, 0x2,	GP, 0, 0, 0, 0, 0)
CASE("hlt at CPL 3",		"f4",		0, 0, 0, 0x2,	GP, 0, 0, 0, 0, 0)
CASE("ud2",			"0f0b",		0, 0, 0, 0x2,	UD, 0, 0, 0, 0, 0)

/* segment loads */
CASE("mov es: null",		"8ec0 8cc0",	0, 0, 0, 0x2,	NONE, 0, 0, 0, 0, 0)
CASE("mov es: null with RPL 3",	"8ec0 8cc0",	3, 0, 0, 0x2,	NONE, 3, 0, 0, 0, 0)
CASE("mov es: ds's own",	"8cd8 8ec0 8cc1 39c1 0f94c0 0fb6c0 b900000000", 0, 0, 0, 0x2, NONE, 1, 0, 0, 0, 0)
CASE("mov es: LDT that is not there", "8ec0",	0x7, 0, 0, 0x2,	GP, 0, 0, 0, 0, 0)
CASE("mov es: beyond the GDT",	"8ec0",		0xfffb, 0, 0, 0x2, GP, 0, 0, 0, 0, 0)
CASE("mov es: not for CPL 3",	"8ec0",		0x8, 0, 0, 0x2,	GP, 0, 0, 0, 0, 0)
CASE("mov es: upper half is ignored", "8ec0 8cc0", 0xffff0000, 0, 0, 0x2, NONE, 0, 0, 0, 0, 0)
CASE("mov cs",			"8ec8",		0, 0, 0, 0x2,	UD, 0, 0, 0, 0, 0)
CASE("mov ss: null",		"8ed0",		0, 0, 0, 0x2,	GP, 0, 0, 0, 0, 0)
CASE("mov ss: ss's own",	"8cd0 8ed0 8cd1 39c8 0f94c0 0fb6c0 b900000000", 0, 0, 0, 0x2, NONE, 1, 0, 0, 0, 0)
CASE("mov ss: RPL is not CPL",	"8cd0 83e0fc 8ed0", 0, 0, 0, 0x2,	GP, 0, 0, 0, 0, 0)
CASE("pop es: null",		"6a00 07 8cc0",	7, 0, 0, 0x2,	NONE, 0, 0, 0, 0, 0)
CASE("pop es: LDT that is not there", "6a07 07", 0, 0, 0, 0x2,	GP, 0, 0, 0, 0, 0)
CASE("mov r32, es: zero above",	"8ec1 8cc0",	0xffffffff, 0, 0, 0x2, NONE, 0, 0, 0, 0, 0)
CASE("mov m, es: 16 bits only",	"8ec1 68ffffffff 8c0424 58", 0, 0, 0, 0x2,	NONE, 0xffff0000, 0, 0, 0, 0)

/* IRET to the same ring */
CASE("iret: eip, cs, eflags",	"68d7020000 0e e802000000 eb01 cf", 0, 0, 0, 0x2,	NONE, 0, 0, 0, ARITH, 0xd5)
CASE("iret with NT set",	"6802420000 9d 6802020000 0e e802000000 eb01 cf", 0, 0, 0, 0x2, TS, 0, 0, 0, 0, 0)

/* what the handlers' arithmetic rests on */
CASE("cmp, jge: 0x80000000",	"3d00020080 b801000000 7d05 b800000000", 0x80000000, 0, 0, 0x2,	NONE, 0, 0, 0, 0, 0)
CASE("cmp, jge: 0x80000200",	"3d00020080 b801000000 7d05 b800000000", 0x80000200, 0, 0, 0x2,	NONE, 1, 0, 0, 0, 0)
CASE("cmp, jge: 3",		"3d00020080 b801000000 7d05 b800000000", 3, 0, 0, 0x2,	NONE, 1, 0, 0, 0, 0)
CASE("cmp, sbb: below",		"81fafdffffbf 19c9", 0, 5, 0xbffffffc, 0x2,	NONE, 0, 0xffffffff, 0xbffffffc, 0, 0)
CASE("cmp, sbb: not below",	"81fafdffffbf 19c9", 0, 5, 0xbffffffd, 0x2,	NONE, 0, 0, 0xbffffffd, 0, 0)
CASE("inc keeps CF",		"40",		0xffffffff, 0, 0, 0x3,	NONE, 0, 0, 0, ARITH, 0x55)
CASE("ror 5",			"c1c805",	0x12345, 0, 0, 0x2,	NONE, 0x2800091a, 0, 0, 0, 0)
CASE("test does not touch ecx",	"f7c100000040 0f94c0", 0, 0x40000000, 0, 0x2,	NONE, 0, 0x40000000, 0, 0, 0)
CASE("pop m: address after esp moved", "6811000000 6822000000 8f0424 58", 0, 0, 0, 0x2,	NONE, 0x22, 0, 0, 0, 0)
CASE("push esp: as it was",	"54 58 29e0",	0, 0, 0, 0x2,	NONE, 0, 0, 0, 0x40, 0x40)

#undef NONE
#undef UD
#undef TS
#undef GP
#undef ARITH
