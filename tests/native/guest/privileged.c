// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * privileged: what does the machine do in states that only ring 0 can set?
 *
 * The checker has a model of SYSENTER, SYSEXIT, IRET, POPF, segment loads at CPL 0 and STI's
 * shadow (sysenter/check/cpu/processor.py), and of AMD's SYSCALL and SYSRET (processor_amd.py).
 * It was written from the manuals. Each case here is a state and a few instructions. A line of
 * JSON on the second serial port has both, and the state that results. The test
 * (tests/check/test_privileged.py) gives the same to the model and compares.
 */
#include <stdint.h>
#include "privileged.h"

struct state {
	uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi, eip, eflags, cs, ss, ds, es, fs, gs;
};

struct event {			/* in the order in which `common' pushes it */
	uint32_t ds, es, fs, gs, ss;
	uint32_t edi, esi, ebp, pushed_esp, ebx, edx, ecx, eax;
	uint32_t vector, error, eip, cs, eflags;
	uint32_t user_esp, user_ss;	/* from another ring only */
	uint32_t vm_es, vm_ds, vm_fs, vm_gs;
};

extern void enter(const struct state *s);
extern char vectors[], landing[];
extern uint64_t gdt_tss;

#define STACK_WORDS	5

static const struct {
	const char *code;		/* in hex */
	uint32_t cs, eflags;
	uint32_t msr_cs;
	int pending;			/* an interrupt is pending from the start */
	uint32_t stack[STACK_WORDS];	/* from esp up */
	uint32_t eax;
} cases[] = {
#define ENTRY_FLAGS(instruction, cs) \
	{ instruction, cs, 0x2, KERNEL_CS }, { instruction, cs, 0x8d7, KERNEL_CS }, \
	{ instruction, cs, 0x402, KERNEL_CS }, { instruction, cs, 0x1002, KERNEL_CS }, \
	{ instruction, cs, 0x2002, KERNEL_CS }, { instruction, cs, 0x3002, KERNEL_CS }, \
	{ instruction, cs, 0x4002, KERNEL_CS }, { instruction, cs, 0x40002, KERNEL_CS }, \
	{ instruction, cs, 0x200002, KERNEL_CS }, { instruction, cs, 0x247cd7, KERNEL_CS }, \
	{ instruction, cs, 0x7402, KERNEL_CS }, { instruction, cs, 0x44002, KERNEL_CS }
	ENTRY_FLAGS("0f34", USER_CS),
	ENTRY_FLAGS("0f35", KERNEL_CS),
	/* IF is cleared; TF traps before the handler's first instruction */
	{ "0f34", USER_CS, 0x202, KERNEL_CS },
	{ "0f34", USER_CS, 0x302, KERNEL_CS },
	{ "0f34", USER_CS, 0x102, KERNEL_CS },
	{ "0f34", USER_CS, 0x4502, KERNEL_CS },
	{ "0f34", USER_CS, EFLAGS_VM | 0x2, KERNEL_CS },
	{ "0f34", USER_CS, EFLAGS_VM | 0x3202, KERNEL_CS },
	/* not without a code segment; SYSEXIT not from ring 3 */
	{ "0f34", USER_CS, 0x2, 0 },
	{ "0f35", KERNEL_CS, 0x2, 0 },
	{ "0f35", USER_CS, 0x2, KERNEL_CS },
	/* STI's shadow: one instruction, and only if IF was clear */
	{ "fb4040", KERNEL_CS, 0x2, KERNEL_CS, 1 },
	{ "fbfa40", KERNEL_CS, 0x2, KERNEL_CS, 1 },
	{ "fb0f35", KERNEL_CS, 0x2, KERNEL_CS, 1 },
	{ "fbfb40", KERNEL_CS, 0x2, KERNEL_CS, 1 },
	{ "fb9d40", KERNEL_CS, 0x2, KERNEL_CS, 1, { 0x2 } },
	{ "9d4040", KERNEL_CS, 0x2, KERNEL_CS, 1, { 0x202 } },
	{ "0f35", KERNEL_CS, 0x2, KERNEL_CS, 1 },
	{ "cf", KERNEL_CS, 0x2, KERNEL_CS, 1, { 0, USER_CS, 0x202, 0, USER_DS } },
	/* POPF, PUSHF and IRET with all of EFLAGS */
	{ "9d", KERNEL_CS, 0x2, KERNEL_CS, 0, { 0x7ed7 & ~0x300 } },
	{ "9d", KERNEL_CS, 0x3002, KERNEL_CS, 0, { 0x2 } },
	{ "9d", KERNEL_CS, 0x2, KERNEL_CS, 0, { 0x260002 } },
	{ "9c58", KERNEL_CS, 0x244cd7, KERNEL_CS },
	{ "cf", KERNEL_CS, 0x2, KERNEL_CS, 0, { 0, USER_CS, 0x247cd7, 0, USER_DS } },
	{ "cf", KERNEL_CS, 0x3402, KERNEL_CS, 0, { 0, USER_CS, 0x202, 0, USER_DS } },
	{ "cf", KERNEL_CS, 0x2, KERNEL_CS, 0, { 0, KERNEL_CS, 0x40402 } },
	{ "cf", KERNEL_CS, 0x4002, KERNEL_CS, 0, { 0, USER_CS, 0x202, 0, USER_DS } },
	{ "cf", USER_CS, 0x2, KERNEL_CS, 0, { 0, USER_CS, 0x3202 } },
	/* with IOPL 3 ring 3 may switch interrupts */
	{ "fb4040", USER_CS, 0x3002, KERNEL_CS, 1 },
	{ "fa", USER_CS, 0x3202, KERNEL_CS },
	{ "fa", USER_CS, 0x2202, KERNEL_CS },
	{ "9d", USER_CS, 0x3002, KERNEL_CS, 0, { 0x1202 } },
	/* segments at CPL 0, and TR */
	{ "8ec0", KERNEL_CS, 0x2, KERNEL_CS, 0, { 0 }, 0 },
	{ "8ec0", KERNEL_CS, 0x2, KERNEL_CS, 0, { 0 }, USER_DS },
	{ "8ed8", KERNEL_CS, 0x2, KERNEL_CS, 0, { 0 }, 0x7 },
	{ "07", KERNEL_CS, 0x2, KERNEL_CS, 0, { USER_DS | 0xabcd0000 } },
	{ "0f00c8", KERNEL_CS, 0x2, KERNEL_CS, 0, { 0 }, 0xffffffff },
	{ "6878563412 ff3424 5859", KERNEL_CS, 0x2, KERNEL_CS },
	/* where the processor has them */
	ENTRY_FLAGS("0f05", USER_CS),
	ENTRY_FLAGS("0f07", KERNEL_CS),
	{ "0f05", USER_CS, 0x202, KERNEL_CS },
	{ "0f05", USER_CS, 0x302, KERNEL_CS },
	{ "0f05", USER_CS, 0x202, 0 },
	{ "0f05", KERNEL_CS, 0x2, KERNEL_CS },
	{ "0f07", KERNEL_CS, 0x2, KERNEL_CS, 1 },
	{ "0f07", KERNEL_CS, 0x2, 0 },
	{ "0f07", USER_CS, 0x2, KERNEL_CS },
};

#define VM86_CODE	0x8000	/* ring 3 in vm86 mode: below 1 MiB */
#define APIC(offset)	(*(volatile uint32_t *)(0xfee00000 + (offset)))

static uint8_t code[32];
static uint32_t stack[256], sysenter_stack[64];
static uint32_t tss[26];
static uint64_t idt[VECTORS];
static uint8_t ring0[STACK_BYTES];
static struct state before, after;
static uint32_t vector;

static void outb(uint16_t port, uint8_t value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t inb(uint16_t port)
{
	uint8_t value;

	asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void wrmsr(uint32_t msr, uint32_t value)
{
	asm volatile("wrmsr" : : "c"(msr), "a"(value), "d"(0));
}

/* EFER.SCE and STAR, where there is AMD's SYSCALL (APM Vol. 2, 6.1.1) */
static int enable_syscall(void)
{
	uint32_t eax = 0x80000000, ebx, ecx, edx = 0;

	asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
	if (eax < 0x80000001)
		return 0;
	eax = 0x80000001;
	asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
	if (!(edx & 1 << 11))
		return 0;
	asm volatile("wrmsr" : : "c"(0xc0000080), "a"(1), "d"(0));
	asm volatile("wrmsr" : : "c"(0xc0000081), "a"(landing), "d"(USER_CS << 16 | KERNEL_CS));
	return 1;
}

static int by_syscall(const char *hex)
{
	return hex[0] == '0' && hex[1] == 'f' && hex[2] == '0' && (hex[3] == '5' || hex[3] == '7');
}

static void print(const char *text)
{
	for (; *text; text++) {
		while (!(inb(0x2f8 + 5) & 0x20))	/* transmitter empty */
			;
		outb(0x2f8, *text);
	}
}

static void print_number(uint32_t value)
{
	char digits[11], *at = digits + 10;

	*at = 0;
	do
		*--at = '0' + value % 10;
	while (value /= 10);
	print(at);
}

static void print_numbers(const char *name, const uint32_t *values, int count)
{
	print(", \"");
	print(name);
	print("\": [");
	for (int i = 0; i < count; i++) {
		print(i ? ", " : "");
		print_number(values[i]);
	}
	print("]");
}

/* `common' calls it with the event that ended the case. */
void event(const struct event *e)
{
	int vm86 = !!(e->eflags & EFLAGS_VM), outer = vm86 || (e->cs & 3);

	vector = e->vector;
	after = (struct state){
		.eax = e->eax, .ecx = e->ecx, .edx = e->edx, .ebx = e->ebx,
		.ebp = e->ebp, .esi = e->esi, .edi = e->edi,
		.esp = outer ? e->user_esp : (uint32_t)&e->user_esp,
		.eip = e->eip - (vector == END_OF_CASE ? 2 : 0), .eflags = e->eflags,
		.cs = e->cs & 0xffff, .ss = (outer ? e->user_ss : e->ss) & 0xffff,
		.ds = (vm86 ? e->vm_ds : e->ds) & 0xffff, .es = (vm86 ? e->vm_es : e->es) & 0xffff,
		.fs = (vm86 ? e->vm_fs : e->fs) & 0xffff, .gs = (vm86 ? e->vm_gs : e->gs) & 0xffff,
	};
	if (vector == INTERRUPT)
		APIC(0xb0) = 0;			/* end of interrupt */
}

static int digit(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

static void try(int number)
{
	uint8_t *to = cases[number].eflags & EFLAGS_VM ? (uint8_t *)VM86_CODE : code;
	const char *hex;
	uint32_t msr[3] = { cases[number].msr_cs, (uint32_t)&sysenter_stack[60], (uint32_t)landing };
	uint32_t *esp = &stack[200];

	before = (struct state){
		.eax = cases[number].eax, .ecx = (uint32_t)&stack[100], .edx = (uint32_t)landing, .ebx = 0x11111111,
		.ebp = 0x22222222, .esi = 0x33333333, .edi = 0x44444444, .esp = (uint32_t)esp, .eip = (uint32_t)to,
		.eflags = cases[number].eflags, .cs = cases[number].cs, .ss = cases[number].cs & 3 ? USER_DS : KERNEL_DS,
		.ds = OTHER_DS, .es = USER_DS, .fs = OTHER_DS, .gs = 0,
	};
	if (before.eflags & EFLAGS_VM) {
		before.cs = VM86_CODE >> 4;
		before.eip = 0;
		before.ss = before.ds = before.es = before.fs = before.gs = 0x1234;
		before.esp = 0x100;
	}
	if (by_syscall(cases[number].code))	/* SYSRET: EIP */
		before.ecx = (uint32_t)landing;
	for (hex = cases[number].code; *hex; hex++)
		if (*hex != ' ') {
			*to++ = digit(hex[0]) << 4 | digit(hex[1]);
			hex++;
		}
	*to++ = 0xcd;				/* int $END_OF_CASE */
	*to = END_OF_CASE;
	for (int i = 0; i < STACK_WORDS; i++)
		esp[i] = cases[number].stack[i];
	if (cases[number].code[0] == 'c') {	/* IRET: to the landing, on a stack */
		esp[0] = (uint32_t)landing;
		esp[3] = esp[3] ? esp[3] : (uint32_t)&stack[150];
	}
	for (int i = 0; i < 3; i++)
		wrmsr(0x174 + i, msr[i]);
	print("{\"code\": \"");
	print(cases[number].code);
	print("\"");
	print_numbers("pending", (const uint32_t *)&cases[number].pending, 1);
	print_numbers("msr", msr, 3);
	print_numbers("stack", esp, STACK_WORDS);
	print_numbers("before", (const uint32_t *)&before, sizeof(before) / 4);
	if (cases[number].pending)
		APIC(0x300) = 0x40000 | INTERRUPT;	/* fixed, to itself */
	enter(&before);
	print_numbers("vector", &vector, 1);
	if (cases[number].pending && vector != INTERRUPT) {
		struct state shown = after, open = before;	/* now let the interrupt come */

		open.cs = KERNEL_CS;
		open.ss = KERNEL_DS;
		open.eip = (uint32_t)landing;
		open.eflags = 0x202;
		enter(&open);
		after = shown;
	}
	print_numbers("after", (const uint32_t *)&after, sizeof(after) / 4);
	print("}\n");
}

/* Descriptor of an interrupt gate that ring 3 may use too */
static uint64_t gate(uint32_t target)
{
	return (uint64_t)(target & 0xffff0000) << 32 | 0x0000ee0000000000ull | (uint32_t)KERNEL_CS << 16 |
	       (target & 0xffff);
}

void privileged_main(void)
{
	struct { uint16_t limit; uint32_t base; } __attribute__((packed)) idtr = { sizeof(idt) - 1, (uint32_t)idt };
	uint32_t base = (uint32_t)tss;
	int has_syscall;

	for (int i = 0; i < VECTORS; i++)
		idt[i] = gate((uint32_t)vectors + 16 * i);
	tss[1] = (uint32_t)ring0 + sizeof(ring0);	/* esp0, ss0 */
	tss[2] = KERNEL_DS;
	gdt_tss = (uint64_t)(base & 0xff000000) << 32 | 0x0000890000000000ull |
		  (uint64_t)(base & 0xffffff) << 16 | (sizeof(tss) - 1);
	asm volatile("lidt %0; ltr %w1; lldt %w2" : : "m"(idtr), "r"(TSS), "r"(0));
	outb(0x21, 0xff);			/* no interrupt but our own */
	outb(0xa1, 0xff);
	APIC(0xf0) = 0x1ff;			/* spurious-interrupt vector, enabled */
	has_syscall = enable_syscall();
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (has_syscall || !by_syscall(cases[i].code))
			try(i);
	print("{\"exit\": 0}\n");
}
