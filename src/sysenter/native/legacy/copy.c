/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The page in the direct mapping to which entry.S is copied. Module text is in vmalloc
 * space, and 2.4 fills in the directory entries of vmalloc space by page fault.
 */
#include <linux/config.h>
#include <linux/version.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <asm/uaccess.h>
#include "legacy.h"
#include "module.h"

extern char sysenter_text[], sysenter_text_end[];
extern unsigned long *sysenter_self_references[];
extern unsigned long *sysenter_self_references_end[];
extern char sysenter_debug_entry[], sysenter_debug_distance[];
extern unsigned long sysenter_gdt;

static unsigned long text_page;
unsigned long sysenter_entry_point;	/* its address in the copy */

unsigned long sysenter_in_copy(const void *symbol)
{
	return text_page + ((const char *)symbol - sysenter_text);
}

int sysenter_is_in_copy(unsigned long address)
{
	return address - text_page < PAGE_SIZE;
}

static int inside(unsigned long address)
{
	return address >= (unsigned long)sysenter_text
		&& address <= (unsigned long)sysenter_text_end;
}

/* The kernel knows this module's exception table already. Entries for entry.S must point
   into the copy, and the table must stay sorted. */
static void move_exception_table(unsigned long delta)
{
	struct exception_table_entry *first, *last, *p, *q, swap;

	first = (struct exception_table_entry *)__this_module.ex_table_start;
	last = (struct exception_table_entry *)__this_module.ex_table_end;
	for (p = first; p < last; p++) {
		if (inside(p->insn))
			p->insn += delta;
		if (inside(p->fixup))
			p->fixup += delta;
		swap = *p;
		for (q = p; q > first && q[-1].insn > swap.insn; q--)
			*q = q[-1];
		*q = swap;
	}
}

/* Copies for the chosen way. sysenter_free_copy() undoes it, also after a failure. */
int sysenter_copy_text(void)
{
	unsigned long size = sysenter_text_end - sysenter_text;
	unsigned long delta, trapped;
	unsigned long **ref;

	if (size > PAGE_SIZE || __this_module.ex_table_start == NULL)
		REFUSE("entry text is %lu bytes long, exception table at %p\n",
		       size, __this_module.ex_table_start);
	text_page = __get_free_page(GFP_KERNEL);
	if (!text_page)
		REFUSE("no memory for a page\n");
	memset((void *)text_page, 0xcc, PAGE_SIZE);
	memcpy((void *)text_page, sysenter_text, size);
	delta = text_page - (unsigned long)sysenter_text;
	for (ref = sysenter_self_references;
	     ref < sysenter_self_references_end; ref++)
		*(unsigned long *)((unsigned long)*ref + delta) += delta;

	sysenter_entry_point = sysenter_in_copy(sysenter_way->entry);
	trapped = sysenter_in_copy(sysenter_way->trapped);
	*(unsigned long *)(sysenter_in_copy(sysenter_debug_entry) - 4)
		= sysenter_entry_point;
	*(unsigned long *)(sysenter_in_copy(sysenter_debug_distance) - 4)
		= trapped - sysenter_entry_point;
	COPY_OF(sysenter_gdt) = (unsigned long)sysenter_gdt_table;
	move_exception_table(delta);
	return sysenter_way->prepare ? sysenter_way->prepare() : 0;
}

void sysenter_free_copy(void)
{
	if (sysenter_way->free)
		sysenter_way->free();
	if (text_page)
		free_page(text_page);
	text_page = 0;
}
